"""Files with one JSON object a line, plain or gzipped, whose broken lines are counted and not fatal."""

from __future__ import annotations

import ast
import gzip
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import polars as pl

from palate.errors import PalateError

_BLOCK = 16 * 1024 * 1024
# Python's parser needs far more memory than the text has; no honest line is that long.
_LONGEST_LITERAL = 1_000_000


@dataclass
class Malformed:
    """Lines that could not be used: how many, and the number of the first (from 1)."""

    lines: int = 0
    first: int | None = None

    def add(self, line: int) -> None:
        self.lines += 1
        self.first = line if self.first is None else min(line, self.first)

    def report(self, prefix: str = "") -> dict[str, int]:
        """Entries for the manifest; nothing where nothing was wrong."""
        if self.first is None:
            return {}
        return {f"{prefix}malformed_lines": self.lines, f"{prefix}first_malformed_line": self.first}


def blocks(path: Path) -> Iterator[list[bytes]]:
    """The lines of a file, some megabytes at a time."""
    try:
        with _open(path) as file:
            while lines := file.readlines(_BLOCK):
                yield lines
    except (OSError, EOFError) as error:  # gzip raises both for a damaged file
        raise PalateError(f"{path} cannot be read ({error})", "Download it again.") from None


def _open(path: Path) -> io.BufferedIOBase:
    packed = path.suffix.lower() == ".gz"
    return cast(io.BufferedIOBase, gzip.open(path, "rb") if packed else path.open("rb"))


def read_columns(path: Path, columns: dict[str, str], malformed: Malformed) -> Iterator[pl.DataFrame]:
    """Columns ``user``, ``item``, ``weight``, ``timestamp`` of every usable line, a frame a block.

    Args:
        columns: our name -> key in the objects. The two ids are read as strings, the others as numbers.
        malformed: counts lines that are no JSON object or lack one of the keys.
    """
    schema = {key: pl.String if ours in ("user", "item") else pl.Float64 for ours, key in columns.items()}
    number = 0
    for lines in blocks(path):
        frame = _fast(lines, schema)
        if frame is None:
            frame = _careful(lines, schema)
        empty = (pl.col(columns["user"], columns["item"]) == "").fill_null(False)
        endless = (~pl.selectors.float().is_finite()).fill_null(False)
        incomplete = frame.select(pl.any_horizontal(pl.all().is_null(), empty, endless).alias("bad"))["bad"]
        for row in incomplete.arg_true().to_list():
            if lines[row].strip():  # a blank line is nobody's mistake
                malformed.add(number + row + 1)
        number += len(lines)
        yield frame.filter(~incomplete).rename({key: ours for ours, key in columns.items()})


def _fast(lines: list[bytes], schema: dict[str, Any]) -> pl.DataFrame | None:
    """All lines at once; None where one of them is not as it should be."""
    try:
        frame = pl.read_ndjson(io.BytesIO(b"".join(lines)), schema=schema)
    except pl.exceptions.PolarsError:
        return None
    return frame if len(frame) == len(lines) else None


def _careful(lines: list[bytes], schema: dict[str, Any]) -> pl.DataFrame:
    """Line by line; a row of nulls for a line that cannot be used."""
    rows: dict[str, list[Any]] = {key: [] for key in schema}
    for line in lines:
        value = parse_object(line, literals=False) or {}
        for key, kind in schema.items():
            rows[key].append(_text(value.get(key)) if kind == pl.String else _number(value.get(key)))
    return pl.DataFrame(rows, schema=schema)


def _text(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None


def _number(value: Any) -> float | None:
    try:
        return float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
    except (ValueError, OverflowError):
        return None


def parse_object(line: bytes, literals: bool) -> dict[str, Any] | None:
    """One line as a dict, or None.

    Args:
        literals: whether a Python dict literal will do too (the 2014 metadata); it is never evaluated as code.
    """
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        if not literals or len(line) > _LONGEST_LITERAL:
            return None
        try:
            value = ast.literal_eval(line.decode("utf-8-sig").strip())
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            return None
    return value if isinstance(value, dict) else None
