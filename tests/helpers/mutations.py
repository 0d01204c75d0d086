"""Files as they should not be: for each kind of file the ways in which it can be wrong."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from safetensors.torch import load_file, save_file

DEEP = "[" * 3000 + "]" * 3000
Mutation = tuple[str, Callable[[Path], None]]
_VALUES: dict[str, Any] = {
    "null": None, "a list": [1], "an object": {"x": 1}, "text": "x", "minus one": -1, "a huge number": 10**18,
    "true": True, "levels": json.loads("[" * 90 + "]" * 90),
}  # fmt: skip


def mutations(path: Path) -> Iterator[Mutation]:
    """All ways in which a file of this kind is made wrong: what is done, and what does it."""
    yield "empty", lambda file: _write(file, b"")
    yield "cut off", lambda file: _write(file, file.read_bytes()[: len(file.read_bytes()) // 2])
    yield "bytes", lambda file: _write(file, bytes(range(256)) * 4)
    kinds: dict[str, Callable[[Path], Iterator[Mutation]]] = {
        ".json": _json, ".jsonl": _lines, ".safetensors": _safetensors, ".npy": _npy, ".parquet": _parquet,
    }  # fmt: skip
    if path.suffix in kinds:
        yield from kinds[path.suffix](path)


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _json(path: Path) -> Iterator[Mutation]:
    for text in ("[]", "null", DEEP, '{"a":' * 3000 + "1" + "}" * 3000, "9" * 5000, "NaN"):
        yield text[:8], lambda file, text=text: _write(file, text.encode())
    value = json.loads(path.read_text())
    for way in _ways(value):
        name = ".".join(map(str, way))
        yield f"without {name}", lambda file, way=way: _edit(file, way, lambda whole, key: whole.pop(key))
        yield f"{name} of many digits", lambda file, way=way: _digits(file, way)
        for what, other in _VALUES.items():
            yield (
                f"{name} is {what}",
                lambda file, way=way, other=other: _edit(file, way, lambda w, key: w.update({key: other})),
            )


def _ways(value: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The keys of objects, three levels of them; of many alike (files by name) the first few."""
    if isinstance(value, dict) and len(above) < 3:
        for key in list(value)[:40]:
            yield (*above, key)
            yield from _ways(value[key], (*above, key))


def _edit(path: Path, way: tuple[str, ...], change: Callable[[dict[str, Any], str], object]) -> None:
    value = json.loads(path.read_text())
    inner = value
    for key in way[:-1]:
        inner = inner[key]
    change(inner, way[-1])
    path.write_text(json.dumps(value))


def _digits(path: Path, way: tuple[str, ...]) -> None:
    _edit(path, way, lambda whole, key: whole.update({key: "@@"}))
    path.write_text(path.read_text().replace('"@@"', "9" * 5000))


def _lines(path: Path) -> Iterator[Mutation]:
    for text in (DEEP, "[1]", '{"epoch": ', '{"epoch": ' + "9" * 5000 + "}", "null"):
        yield f"a line {text[:8]}", lambda file, text=text: _write(file, file.read_bytes() + text.encode() + b"\n")


def _safetensors(path: Path) -> Iterator[Mutation]:
    for name, one in load_file(path).items():
        changes: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
            "of one row less": lambda t: t[:-1].clone() if t.ndim and len(t) else torch.zeros(3),
            "of one more dimension": lambda t: t.unsqueeze(-1).contiguous(),
            "int64": lambda t: t.to(torch.int64),
            "float64": lambda t: t.to(torch.float64),
            "bool": lambda t: t.bool(),
        }
        if one.is_floating_point():
            changes |= {
                "NaN": lambda t: torch.full_like(t, torch.nan),
                "infinite": lambda t: torch.full_like(t, torch.inf),
                "huge": lambda t: torch.full_like(t, torch.finfo(t.dtype).max),
            }
        elif one.dtype != torch.bool:
            changes |= {"minus one": lambda t: torch.full_like(t, -1), "huge": lambda t: torch.full_like(t, 2**30)}
        for what, change in changes.items():
            yield f"{name} {what}", lambda file, name=name, change=change: _tensor(file, name, change)
        yield f"without {name}", lambda file, name=name: _tensor(file, name, None)


def _tensor(path: Path, name: str, change: Callable[[torch.Tensor], torch.Tensor] | None) -> None:
    tensors = {key: one.clone() for key, one in load_file(path).items()}
    one = tensors.pop(name)
    save_file(tensors if change is None else {**tensors, name: change(one)}, path)


def _npy(path: Path) -> Iterator[Mutation]:
    def archive(file: Path) -> None:
        data = io.BytesIO()
        np.savez(data, a=np.load(file))
        _write(file, data.getvalue())

    def other(change: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> Callable[[Path], None]:
        def write(file: Path) -> None:
            data = io.BytesIO()
            np.save(data, change(np.array(np.load(file))))
            _write(file, data.getvalue())

        return write

    yield "an archive", archive
    yield "objects", other(lambda a: np.array([{"a": 1}], object))
    yield "text", other(lambda a: a.astype(str))
    yield "one row less", other(lambda a: a[:-1])
    yield "a single number", other(lambda a: np.array(1.0))
    yield "empty rows", other(lambda a: a[:0])
    yield "complex", other(lambda a: a.astype(complex))
    if np.load(path).dtype.kind == "f":
        for number in (np.nan, np.inf):
            yield str(number), other(lambda a, number=number: np.where(np.arange(len(a))[:, None] == 1, number, a))


def _parquet(path: Path) -> Iterator[Mutation]:
    frame = pl.read_parquet(path)
    for name, kind in frame.schema.items():
        changes: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
            "dropped": lambda f, name=name: f.drop(name),
            "null": lambda f, name=name: f.with_columns(pl.lit(None).alias(name)),
            "typed null": lambda f, name=name, kind=kind: f.with_columns(pl.lit(None, kind).alias(name)),
            "lists": lambda f, name=name: f.with_columns(pl.concat_list(pl.col(name)).alias(name)),
            "numbers": lambda f, name=name: f.with_columns(pl.lit(9, pl.Int64).alias(name)),
            "fractions": lambda f, name=name: f.with_columns(pl.lit(0.5).alias(name)),
            "no numbers": lambda f, name=name: f.with_columns(pl.lit(float("nan")).alias(name)),
            "text": lambda f, name=name: f.with_columns(pl.lit("x").alias(name)),
            "bytes": lambda f, name=name: f.with_columns(pl.lit(b"\xff").alias(name)),
            "structs": lambda f, name=name: f.with_columns(pl.struct(pl.lit(1).alias("a")).alias(name)),
        }
        for what, change in changes.items():
            yield f"{name} {what}", lambda file, change=change: change(pl.read_parquet(file)).write_parquet(file)
    yield "a row less", lambda file: pl.read_parquet(file).head(-1).write_parquet(file)
    yield "no rows", lambda file: pl.read_parquet(file).head(0).write_parquet(file)
