"""RecBole's atomic files: ``NAME.inter`` and ``NAME.item``, tabs, with a type behind every column's name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from palate.data.readers.base import ReaderOptions, Source
from palate.data.readers.find import one_file
from palate.data.readers.pictures import pictures_of
from palate.data.readers.text import Delimited, scan_delimited, unreadable
from palate.data.readers.times import unused_times
from palate.errors import PalateError

_TYPES = ("token", "token_seq", "float", "float_seq")
_USUAL = {"user": "user_id", "item": "item_id", "timestamp": "timestamp", "weight": "rating"}
_TITLES = ("title", "movie_title", "item_title", "name", "item_name")


class RecBole:
    """``user_id:token``, ``item_id:token``, ``rating:float``, ``timestamp:float``; other names by ``--columns``."""

    takes: ClassVar[frozenset[str]] = frozenset({"columns", "time_unit"})

    def read(self, source: Path, options: ReaderOptions) -> Source:
        log = one_file(source, lambda name: name.endswith(".inter"), "*.inter file")
        table = scan_delimited(log, "\t", quoted=False)
        types = _typed(table)
        columns = _columns(log, types, options.columns)
        named = {ours: f"{theirs}:{types[theirs]}" for ours, theirs in columns.items()}
        files, catalogue = [log], None
        items = log.with_suffix(".item")
        if items.is_file():
            catalogue = _items(items, columns["item"])
            files.append(items)
        images, root = pictures_of(log.parent, options.images, "images")
        return Source(
            interactions=table.interactions(named),
            files=files,
            catalogue=catalogue,
            images=images,
            root=root,
            time_unit=options.time_unit,
            explain=lambda row: table.explain(row, named),
            locate=table.at,
            unused_times=unused_times(dict.fromkeys(types, pl.String()), columns, options.columns),
        )


def _typed(table: Delimited) -> dict[str, str]:
    """Column name -> type, from a header such as ``user_id:token``."""
    types: dict[str, str] = {}
    for head in table.columns:
        name, colon, kind = head.rpartition(":")
        if not colon or kind not in _TYPES:
            raise PalateError(
                f"{table.path}: the column '{head}' has no type", f"Expected NAME:TYPE with a type of {_TYPES}."
            )
        types[name] = kind
    return types


def _columns(path: Path, types: dict[str, str], named: dict[str, str]) -> dict[str, str]:
    unknown = sorted(set(named) - set(_USUAL))
    if unknown:
        raise PalateError(f"--columns: there is no '{unknown[0]}'", f"It maps {', '.join(_USUAL)}.")
    columns = {ours: named.get(ours, theirs) for ours, theirs in _USUAL.items()}
    for ours, theirs in list(columns.items()):
        if not theirs and ours not in ("user", "item"):
            del columns[ours]
        elif theirs not in types:
            if ours in ("user", "item") or ours in named:
                shown = ", ".join(types)
                raise PalateError(f"{path} has no column '{theirs}' for the {ours}", f"It has: {shown}; see --columns.")
            del columns[ours]
    return columns


def _items(path: Path, item: str) -> pl.DataFrame:
    table = scan_delimited(path, "\t", quoted=False)
    types = _typed(table)
    if item not in types:
        raise PalateError(f"{path} has no column '{item}'", f"It has: {', '.join(types)}.")
    title = next((name for name in _TITLES if name in types), None)
    shapes: dict[str, Any] = {}
    for name, kind in types.items():
        cell = pl.col(f"{name}:{kind}")
        words = cell.str.split(" ").list.eval(pl.element().filter(pl.element() != ""))
        if name == item:
            shapes["item_id"] = cell
        elif name == title:
            shapes["title"] = cell.str.strip_chars()  # a title's words belong together
        elif kind == "float":
            shapes[name] = cell.cast(pl.Float64, strict=False)
        elif kind == "token":
            shapes[name] = cell
        else:
            shapes[name] = words if kind == "token_seq" else words.cast(pl.List(pl.Float64), strict=False)
    try:
        return table.frame.select(**shapes).collect()
    except pl.exceptions.PolarsError as error:
        raise unreadable(path, error) from None
