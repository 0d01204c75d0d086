"""Columns of any typed frame (Parquet, polars, pandas) as interactions and as a catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from palate.data.identity import id_column, id_text
from palate.data.readers.base import TimeUnit
from palate.errors import PalateError, suggest

INTERACTION = ("user", "item", "timestamp", "weight")
# Names that are taken without being told, the first that is there.
_USUAL = {
    "user": ("user", "user_id", "userId"),
    "item": ("item", "item_id", "itemId"),
    "timestamp": ("timestamp", "time"),
    "weight": ("weight", "rating"),
}


def pick_columns(there: list[str], given: Mapping[str, str], where: str) -> dict[str, str]:
    """Our name -> the source's, from what the user gave and else from usual names.

    >>> pick_columns(["uid", "item_id", "rating"], {"user": "uid"}, "log.csv")
    {'user': 'uid', 'item': 'item_id', 'weight': 'rating'}
    """
    for ours in given:
        if ours not in INTERACTION:
            raise PalateError(f"--columns: there is no '{ours}'", suggest(ours, INTERACTION))
    columns: dict[str, str] = {}
    for ours in INTERACTION:
        theirs = given.get(ours) or _usual(there, ours, where)
        if theirs is None and ours in ("user", "item"):
            raise PalateError(
                f"{where} has no column '{ours}'", f"Say which it is: --columns {ours}=NAME, of {', '.join(there)}."
            )
        if theirs is not None and theirs not in there:
            raise PalateError(f"{where} has no column '{theirs}'", suggest(theirs, there))
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


def shape_interactions(frame: pl.LazyFrame, columns: Mapping[str, str], where: str) -> tuple[pl.LazyFrame, TimeUnit]:
    """The columns as ``user``, ``item``, ``timestamp``, ``weight``, null where a cell cannot be read.

    Returns:
        The frame, and the unit of its times: ``ms`` where they were dates, ``auto`` where they are numbers.
    """
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
        elif kind.is_temporal():
            shapes[ours], unit = cell.cast(pl.Datetime("ms")).dt.epoch("ms"), "ms"
        elif kind == pl.String:
            shapes[ours], unit = _text_time(frame, theirs)
        elif kind.is_numeric():
            shapes[ours] = cell
        else:
            raise PalateError(f"{where}: the column '{theirs}' holds {kind}", "Times must be numbers or dates.")
    return frame.select(**shapes), unit


def _text_time(frame: pl.LazyFrame, name: str) -> tuple[pl.Expr, TimeUnit]:
    """Text that is a number, or else an ISO date (UTC where it names no zone), judged by the first cell."""
    cell = pl.col(name)
    some = frame.select(cell).filter(cell.is_not_null()).head(1).collect()[name]
    for number in (pl.Int64, pl.Float64):
        if len(some) and some.cast(number, strict=False)[0] is not None:
            return cell.cast(number, strict=False), "auto"
    moment = cell.str.strip_chars().str.to_datetime(time_unit="ms", time_zone="UTC", strict=False)
    return moment.dt.epoch("ms"), "ms"


def explain_cell(cells: Mapping[str, Any], columns: Mapping[str, str], at: str) -> PalateError:
    """The error for a row that shaping left incomplete."""
    for ours, theirs in columns.items():
        value = cells[theirs]
        if value is None or (isinstance(value, str) and not value.strip()):
            return PalateError(f"{at}: no value in column '{theirs}'", f"Every interaction needs its {ours}.")
        if ours in ("timestamp", "weight"):
            shaped = shape_cell(ours, theirs, value)
            if shaped is None or shaped != shaped:
                kind = "a time like the first one" if ours == "timestamp" else "a number"
                return PalateError(f"{at}: '{value}' in column '{theirs}' is not {kind}", "Correct or remove the row.")
    return PalateError(f"{at}: cannot be read; its time is not written like the first one", "Correct the row.")


def shape_cell(ours: str, theirs: str, value: Any) -> float | None:
    """One cell on its own, as a number."""
    try:
        frame = pl.LazyFrame({theirs: [value]})
        shaped, _ = shape_interactions(frame, {ours: theirs}, "")
        number = shaped.collect()[ours][0]
    except (PalateError, pl.exceptions.PolarsError):
        return None
    return None if number is None else float(number)


def shape_catalogue(frame: pl.DataFrame, columns: Mapping[str, str], where: str) -> pl.DataFrame:
    """A frame with ``item_id``, ``title``, perhaps ``image``, and all its other columns as fields.

    Args:
        columns: our name -> the frame's; every name may be given, ``item_id`` is found under usual names too.
    """
    for theirs in columns.values():
        if theirs not in frame.columns:
            raise PalateError(f"{where} has no column '{theirs}'", suggest(theirs, frame.columns))
    remedy = "Say which it is: --item-columns item_id=NAME."
    item = columns.get("item_id") or id_column(frame.columns, ("item_id", "item", "itemId"), where, remedy)
    if item is None:
        raise PalateError(
            f"{where} has no column 'item_id'",
            f"Say which it is: --item-columns item_id=NAME, of {', '.join(frame.columns)}.",
        )
    renamed = {theirs: ours for ours, theirs in columns.items()} | {item: "item_id"}
    clash = sorted((set(renamed.values()) - set(renamed)) & set(frame.columns))
    frame = frame.drop(clash).rename(renamed)  # what the user names wins over a column that had the name
    schema = frame.schema
    flat = [n for n in ("title", "image") if n in schema and not schema[n].is_nested() and schema[n] != pl.Binary]
    text = [pl.col(name).cast(pl.String) for name in flat]
    kind = frame.schema["item_id"]
    return frame.with_columns(id_text(pl.col("item_id"), kind, item, where), *text)
