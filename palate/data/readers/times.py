"""Times as files write them: numbers, dates, ISO text, or text in a format that the user names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import cast

import polars as pl

from palate.data.readers.base import ReaderOptions, TimeUnit
from palate.errors import PalateError

_ISO = re.compile(
    r"\d{4}-\d\d-\d\d"
    r"(?:(?P<middle>[T ])\d\d:\d\d(?P<seconds>:\d\d(?:[.,](?P<fraction>\d{1,9}))?)?"
    r"(?P<zone>(?P<space> ?)(?:Z|UTC|[+-]\d\d(?::?\d\d)?))?)?"
)
# How dates are often written, to name the formats that a cell fits.
_DATES = ("%Y/%m/%d", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y.%m.%d", "%b %d, %Y", "%d %b %Y")
_CLOCKS = ("", " %H:%M", " %H:%M:%S%.f", " %I:%M %p", " %I:%M:%S %p")
_WITH_YEAR = re.compile(r"%(?:[-_0]?[YyGgCs]|[cDFvx+])")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_OF_TIMES = {"time", "timestamp", "date", "datetime", "stamp", "ts", "dt", "dat", "day", "when", "at", "created"}
_SAMPLE = 1000
# Whole numbers up to here are exact as float64; of time units only nanoseconds are larger.
_EXACT = 2**53
_NANOSECONDS_IN_US = 2**63 // 1000 - 1


def check_format(options: ReaderOptions) -> None:
    """Refuse a ``--time-format`` without a year (all times would be in the year 1), or beside a ``--time-unit``."""
    time_format = options.time_format
    if time_format is None:
        return
    if options.time_unit != "auto":
        raise PalateError(
            f"--time-unit {options.time_unit} is of numbers, --time-format {time_format} of text", "Give one of them."
        )
    if not _WITH_YEAR.search(time_format):
        raise PalateError(
            f"--time-format {time_format}: no year is in it",
            "For example %d/%m/%Y, or '%Y%m%d %H:%M:%S' (the letters of strptime).",
        )


def shape_time(frame: pl.LazyFrame, name: str, where: str, time_format: str | None) -> tuple[pl.Expr, TimeUnit]:
    """A column of times as numbers, null where a cell is no time.

    Args:
        time_format: how the times are written; None for numbers, dates and ISO text.

    Returns:
        The numbers (whole, or with decimals) and their unit; ``auto`` where the column held numbers.

    Raises:
        PalateError: the column holds no times, or its first one is neither a number nor an ISO date.
    """
    kind, cell = frame.collect_schema()[name], pl.col(name)
    if time_format is not None:
        return _formatted(frame, name, where, time_format)
    if kind == pl.Date:
        return cell.cast(pl.Datetime("ms")).dt.epoch("ms"), "ms"
    if isinstance(kind, pl.Datetime):
        return cell.dt.epoch(kind.time_unit), cast(TimeUnit, kind.time_unit)
    if kind == pl.String:
        return _text(frame, name, where)
    if kind.is_integer():
        return (
            cell if kind.is_unsigned_integer() and kind != pl.UInt128 else cell.cast(pl.Int64, strict=False)
        ), "auto"
    if kind.is_numeric():
        return cell.cast(pl.Float64), "auto"
    raise PalateError(f"{where}: the column '{name}' holds {kind}", "Times must be numbers or dates.")


def _text(frame: pl.LazyFrame, name: str, where: str) -> tuple[pl.Expr, TimeUnit]:
    """Text that is a number, or else an ISO date (UTC where it names no zone), judged by the first cell."""
    cell = pl.col(name).str.strip_chars()
    some = _first(frame, name)
    if some.is_empty():
        return cell.cast(pl.Float64, strict=False), "auto"
    numbers = some.cast(pl.Float64, strict=False)
    if numbers[0] is not None:
        if numbers.abs().max() < _EXACT:  # type: ignore[operator]
            return cell.cast(pl.Float64, strict=False), "auto"
        return cell.str.replace(r"\.\d*$", "").cast(pl.Int64, strict=False), "auto"
    match = _ISO.fullmatch(some[0])
    if match is None:
        fits = _fitting(some[0])
        raise PalateError(
            f"{where}: the first time in column '{name}', '{some[0]}', is neither a number nor an ISO date"
            + (", and could be read in several ways" if len(fits) > 1 else ""),
            f"Say how times are written: --time-format {' or '.join(repr(one) for one in fits or ['%d %b %Y %H:%M'])}.",
        )
    layout = "%Y-%m-%d"
    if match["middle"]:
        layout += f"{match['middle']}%H:%M{':%S%.f' if match['seconds'] else ''}"
        layout += f"{match['space']}%#z" if match["zone"] else ""
    cell = cell.str.replace(",", ".", literal=True)
    if (match["zone"] or "").endswith("UTC"):
        cell = cell.str.replace(r"UTC$", "Z")
    return _moments(cell, layout, finest="ns" if len(match["fraction"] or "") > 6 else "us")


def _first(frame: pl.LazyFrame, name: str) -> pl.Series:
    """The first cells of a column that hold something, as text."""
    cell = pl.col(name).cast(pl.String).str.strip_chars()
    return frame.select(cell.alias(name)).filter(pl.col(name).str.len_bytes() > 0).head(_SAMPLE).collect()[name]


def _moments(cell: pl.Expr, layout: str, finest: TimeUnit) -> tuple[pl.Expr, TimeUnit]:
    micros = cell.str.to_datetime(layout, time_unit="us", time_zone="UTC", strict=False).dt.epoch("us")
    if finest == "us":
        return micros, "us"
    nanos = cell.str.to_datetime(layout, time_unit="ns", time_zone="UTC", strict=False).dt.epoch("ns")
    # Beyond the years 1677 to 2262 nanoseconds do not fit into 64 bits.
    return pl.when(micros.abs() < _NANOSECONDS_IN_US).then(nanos), "ns"


def _formatted(frame: pl.LazyFrame, name: str, where: str, time_format: str) -> tuple[pl.Expr, TimeUnit]:
    kind, cell = frame.collect_schema()[name], pl.col(name)
    if kind.is_float():
        cell = cell.cast(pl.Int64, strict=False)  # 20240131.0
    elif kind != pl.String and not kind.is_integer():
        raise PalateError(f"{where}: the column '{name}' holds {kind}", "Leave --time-format out.")
    frame = frame.select(cell)
    shaped, unit = _moments(cell.cast(pl.String).str.strip_chars(), time_format, "us")
    some = _first(frame, name)
    if len(some) and some.head(1).to_frame().select(shaped).item() is None:
        raise PalateError(
            f"{where}: the first time in column '{name}', '{some[0]}', does not fit --time-format {time_format}",
            f"Perhaps {' or '.join(repr(one) for one in fits)}." if (fits := _fitting(some[0])) else "Correct it.",
        )
    return shaped, unit


def _fitting(text: str) -> list[str]:
    """Usual formats that a time can be read by."""
    cell = pl.Series([text])
    formats = [date + clock for date in _DATES for clock in _CLOCKS]
    return [one for one in formats if cell.str.to_datetime(one, time_unit="us", strict=False)[0] is not None]


def time_column(there: Iterable[str]) -> str | None:
    """The only column that is called ``timestamp``, or else ``time``, in whatever case."""
    names = list(there)
    for usual in ("timestamp", "time"):
        found = [name for name in names if name.lower() == usual]
        if found:
            return found[0] if len(found) == 1 else None
    return None


def unused_times(
    schema: Mapping[str, pl.DataType], used: Mapping[str, str], named: Mapping[str, str] | None = None
) -> list[str]:
    """Columns that look like times by name or type, where no column is read as such.

    Args:
        named: what the user named; an empty name for the ``timestamp`` leaves times out on purpose.

    >>> unused_times({"user": pl.String(), "purchase_date": pl.String(), "price": pl.Int64()}, {"user": "user"})
    ['purchase_date']
    """
    if "timestamp" in {**used, **(named or {})}:
        return []
    rest = [(name, kind) for name, kind in schema.items() if name not in used.values()]
    return [name for name, kind in rest if kind in (pl.Date, pl.Datetime) or _named_after_times(name)]


def _named_after_times(name: str) -> bool:
    words = [word.lower() for word in _WORD.findall(name)]
    return any(word in _OF_TIMES or word.endswith("time") for word in words)
