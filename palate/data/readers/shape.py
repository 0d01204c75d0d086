"""Columns of any typed frame (Parquet, polars, pandas) as interactions and as a catalogue."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from palate.data.identity import id_column, id_text
from palate.data.readers.base import TimeUnit
from palate.data.readers.header import seems_data
from palate.data.readers.times import shape_time, time_column
from palate.errors import PalateError, suggest
from palate.names import quoted_name

INTERACTION = ("user", "item", "timestamp", "weight")
# Names that are taken without being named, the first that is there.
_USUAL = {
    "user": ("user", "user_id", "userId"),
    "item": ("item", "item_id", "itemId"),
    "timestamp": ("timestamp", "time"),
    "weight": ("weight", "rating"),
}


def pick_columns(there: list[str], named: Mapping[str, str], where: str) -> dict[str, str]:
    """Our name -> the source's, from what the user gave and else from usual names; a name given as '' is left out.

    >>> pick_columns(["uid", "item_id", "rating"], {"user": "uid"}, "log.csv")
    {'user': 'uid', 'item': 'item_id', 'weight': 'rating'}
    """
    for ours in named:
        if ours not in INTERACTION:
            raise PalateError(f"--columns: there is no '{ours}'", suggest(ours, INTERACTION))
        if not named[ours] and ours in ("user", "item"):
            raise PalateError(f"--columns {ours}= names no column", f"Every interaction needs its {ours}.")
    check_columns(filter(None, named.values()), there, where)
    columns: dict[str, str] = {}
    for ours in INTERACTION:
        if named.get(ours) == "":
            continue
        theirs = named.get(ours) or _usual(there, ours, where)
        if theirs is None and ours == "timestamp":
            theirs = time_column(name for name in there if name not in columns.values())
        if theirs is None and ours in ("user", "item"):
            shown = ", ".join(map(quoted_name, there))
            remedy = f"Say which it is: --columns {ours}=NAME, of {shown}."
            if seems_data(there):
                remedy = f"If its first line is an interaction, say --no-header --columns user=1,item=2. Else: {remedy}"
            raise PalateError(f"{where} has no column '{ours}'", remedy)
        if theirs is not None:
            columns[ours] = theirs
    return columns


def _usual(there: list[str], ours: str, where: str) -> str | None:
    """The first usual name that is there; of ids the only one."""
    found = [name for name in _USUAL[ours] if name in there]
    if len(found) > 1 and ours in ("user", "item"):
        raise PalateError(
            f"{where} has the columns '{found[0]}' and '{found[1]}', and either may be the {ours}",
            f"Say which it is: --columns {ours}=NAME.",
        )
    return found[0] if found else None


def shape_interactions(
    frame: pl.LazyFrame, columns: Mapping[str, str], where: str, time_format: str | None = None
) -> tuple[pl.LazyFrame, TimeUnit]:
    """The columns as ``user``, ``item``, ``timestamp``, ``weight``, null where a cell cannot be read.

    Args:
        time_format: how times are written that are neither numbers nor ISO dates.

    Returns:
        The frame, and the unit of its times: ``auto`` where they are numbers.
    """
    if time_format is not None and "timestamp" not in columns:
        raise PalateError(
            f"--time-format: {where} has no column of times", "Name it: --columns timestamp=NAME, or leave it out."
        )
    schema = frame.collect_schema()
    shapes: dict[str, pl.Expr] = {}
    unit: TimeUnit = "auto"
    for ours, theirs in columns.items():
        kind, cell = schema[theirs], pl.col(theirs)
        if ours in ("user", "item"):
            shapes[ours] = pl.when(cell.cast(pl.String) != "").then(id_text(cell, kind, theirs, where))
        elif ours == "weight":
            if not (kind.is_numeric() or kind in (pl.String, pl.Boolean)):
                raise PalateError(f"{where}: the column '{theirs}' holds {kind}", "Ratings must be numbers.")
            shapes[ours] = cell.cast(pl.Float32, strict=False)
        else:
            shapes[ours], unit = shape_time(frame, theirs, where, time_format)
    return frame.select(**shapes), unit


def explain_cell(
    cells: Mapping[str, Any],
    columns: Mapping[str, str],
    at: str,
    time_format: str | None = None,
    *,
    command: bool = True,
) -> PalateError:
    """The error for a row that shaping left incomplete.

    Args:
        command: whether the columns were named by ``--columns``.
    """
    for ours, theirs in columns.items():
        value = cells[theirs]
        optional = command and ours in ("timestamp", "weight")
        drop = f", or leave the column out: --columns {ours}=" if optional else ""
        if value is None or (isinstance(value, str) and not value.strip()):
            return PalateError(f"{at}: no value in column '{theirs}'", f"Every interaction needs its {ours}{drop}.")
        if ours in ("timestamp", "weight"):
            shaped = shape_cell(ours, theirs, value, time_format)
            if shaped is None or not math.isfinite(shaped):
                like = "like the first one" if time_format is None else f"of the format {time_format}"
                kind = f"a time {like}" if ours == "timestamp" else "a number"
                what = kind if shaped is None else "a finite number"
                return PalateError(
                    f"{at}: '{value}' in column '{theirs}' is not {what}", f"Correct or remove the row{drop}."
                )
    if "timestamp" in columns:
        time = cells[columns["timestamp"]]
        return PalateError(f"{at}: the time '{time}' is not written like the first one", "Correct or remove the row.")
    return PalateError(f"{at}: cannot be read", "Correct or remove the row.")


def shape_cell(ours: str, theirs: str, value: Any, time_format: str | None = None) -> float | None:
    """One cell on its own, as a number."""
    try:
        frame = pl.LazyFrame({theirs: [value]})
        shaped, _ = shape_interactions(frame, {ours: theirs}, "", time_format if ours == "timestamp" else None)
        number = shaped.collect()[ours][0]
    except (PalateError, pl.exceptions.PolarsError):
        return None
    return None if number is None else float(number)


def check_columns(names: Iterable[str], there: Sequence[str], where: str) -> None:
    """Refuse names that no column has, all of them at once.

    Args:
        there: the columns.
    """
    absent = [name for name in dict.fromkeys(names) if name not in there]
    if len(absent) == 1:
        raise PalateError(f"{where} has no column '{absent[0]}'", suggest(absent[0], map(quoted_name, there)))
    if absent:
        shown = ", ".join(map(quoted_name, there))
        named = ", ".join(f"'{name}'" for name in absent)
        raise PalateError(f"{where} has no columns {named}", f"It has: {shown}.")


def rename_columns(frame: pl.DataFrame, columns: Mapping[str, str]) -> pl.DataFrame:
    """The frame with our names for its columns; what is named wins over a column that had the name.

    Args:
        columns: our name -> the frame's.
    """
    renamed = {theirs: ours for ours, theirs in columns.items()}
    clash = sorted((set(renamed.values()) - set(renamed)) & set(frame.columns))
    return frame.drop(clash).rename(renamed)


def shape_catalogue(frame: pl.DataFrame, columns: Mapping[str, str], where: str, command: bool = True) -> pl.DataFrame:
    """A frame with ``item_id``, ``title``, perhaps ``image``, and all its other columns as fields.

    Args:
        columns: our name -> the frame's; every name may be given, ``item_id`` is found under usual names too. '' leaves
            the column out that has the name.
        command: whether remedies name options of the command, or else arguments of Python.
    """
    out = [ours for ours, theirs in columns.items() if not theirs]
    if "item_id" in out:
        raise PalateError("--item-columns item_id= names no column", "Every item needs its id.")
    columns = {ours: theirs for ours, theirs in columns.items() if theirs}
    check_columns((*out, *columns.values()), frame.columns, where)
    frame = frame.drop([name for name in out if name not in columns.values()])
    which = "--item-columns item_id=NAME" if command else 'item_columns={"item_id": "NAME"}'
    remedy = f"Say which it is: {which}."
    item = columns.get("item_id") or id_column(frame.columns, ("item_id", "item", "itemId"), where, remedy)
    if item is None:
        raise PalateError(
            f"{where} has no column 'item_id'",
            f"Say which it is: {which}, of {', '.join(map(quoted_name, frame.columns))}.",
        )
    frame = rename_columns(frame, {**columns, "item_id": item})
    schema = frame.schema
    flat = [n for n in ("title", "image") if n in schema and not schema[n].is_nested() and schema[n] != pl.Binary]
    text = [pl.col(name).cast(pl.String) for name in flat]
    kind = frame.schema["item_id"]
    return frame.with_columns(id_text(pl.col("item_id"), kind, item, where), *text)
