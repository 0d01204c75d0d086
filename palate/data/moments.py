"""Numeric times as moments: their unit, and Unix milliseconds with what is between two of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from palate.data.blocks import row_blocks
from palate.data.growing import Growing
from palate.data.readers.base import Source
from palate.errors import PalateError

# int64 [rows] Unix milliseconds, and int32 [rows] nanoseconds to be added to them (None if all are 0).
Moments: TypeAlias = tuple[npt.NDArray[np.int64], npt.NDArray[np.int32] | None]
Unit = Literal["s", "ms", "us", "ns"]

UNITS: dict[Unit, str] = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_PER_MS: dict[Unit, int] = {"ms": 1, "us": 10**3, "ns": 10**6}
# 1e11 seconds is the year 5138 and 1e11 milliseconds is 1973, and so on for the finer units.
_LEAST: dict[Unit, int] = {"s": 1, "ms": 10**11, "us": 10**14, "ns": 10**17}
YEAR_1, YEAR_9999 = -62_135_596_800_000, 253_402_300_799_999


def unit_of(value: float) -> Unit:
    """The unit that makes a number a time since 1970 in living memory; 0 is "s".

    >>> unit_of(1_700_000_000), unit_of(-1_700_000_000_000)
    ('s', 'ms')
    """
    return next(unit for unit in reversed(_LEAST) if abs(value) >= _LEAST[unit] or unit == "s")


def judge(times: npt.NDArray[Any]) -> tuple[Unit, npt.NDArray[np.intp]]:
    """The unit of the largest of some times, and the rows whose size says another one (0 fits every unit)."""
    unit = unit_of(max(times.max().item(), times.min().item(), key=abs))
    edge = _LEAST[unit]
    smaller = (times != 0) & (times < edge)
    if times.dtype.kind != "u":
        smaller &= times > -edge
    return unit, np.flatnonzero(smaller) if unit != "s" else np.empty(0, np.intp)


def out_of_range(times: npt.NDArray[Any], unit: Unit) -> int | None:
    """The row of a time outside the years 1 to 9999, or None."""
    for row in (int(times.argmin()), int(times.argmax())):
        value = times[row].item() * (1000 if unit == "s" else 1) / _PER_MS.get(unit, 1)
        if not YEAR_1 <= value <= YEAR_9999:
            return row
    return None


def iso_time(milliseconds: int) -> str:
    """Unix milliseconds as people read them, in UTC.

    >>> iso_time(1_700_000_000_500)
    '2023-11-14T22:13:20.500000+00:00'
    """
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat()


def calendar_format(times: npt.NDArray[Any]) -> str | None:
    """``%Y%m%d`` or ``%Y%m%d%H%M%S`` where all numbers read as dates (20240131) of the years 1900 to 2100."""
    low, high = times.min().item(), times.max().item()
    for digits, written in ((8, "%Y%m%d"), (14, "%Y%m%d%H%M%S")):
        scale = 10 ** (digits - 4)
        if not 1900 * scale <= low <= high < 2101 * scale:
            continue
        days, clock = np.divmod(times.astype(np.int64), 10 ** (digits - 8))
        month, day = days // 100 % 100, days % 100
        good = (times == times.astype(np.int64)) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)
        if digits == 14:
            good &= (clock < 240_000) & (clock // 100 % 100 < 60) & (clock % 100 < 60)
        if good.all():
            return written
    return None


def moments(times: npt.NDArray[Any], unit: Unit) -> Moments:
    """Exact for whole numbers of any width; float32 and float64 are taken as the number that they hold.

    Args:
        times: integers or floats ``[rows]``, finite and in the years 1 to 9999.

    Returns:
        Milliseconds (fractions of seconds rounded to the nearest, micro- and nanoseconds cut), and what was rounded or
        cut off in nanoseconds: by both of them the order is that of ``times``.
    """
    fraction = None
    if times.dtype.kind == "f":
        wide = times.astype(np.float64, copy=False)
        floor = np.floor(wide)
        fraction, whole = wide - floor, floor.astype(np.int64)
        fraction = fraction if fraction.any() else None
    else:
        whole = times if times.dtype == np.uint64 else times.astype(np.int64, copy=False)
    if unit in ("s", "ms"):
        ms = whole.astype(np.int64) * (1000 if unit == "s" else 1)
        if fraction is None:
            return ms, None
        fraction *= 1000 if unit == "s" else 1
        near = np.rint(fraction)
        return _moments(ms + near.astype(np.int64), (fraction - near) * 1e6)
    ms = (whole // _PER_MS[unit]).astype(np.int64)
    beyond = (whole % _PER_MS[unit]).astype(np.int64) * (10**6 // _PER_MS[unit])
    return _moments(ms, beyond if fraction is None else beyond + fraction * (10**6 // _PER_MS[unit]))


def _moments(ms: npt.NDArray[np.int64], nanoseconds: npt.NDArray[Any]) -> Moments:
    beyond = np.rint(nanoseconds).astype(np.int32)
    return ms, beyond if beyond.any() else None


def read_times(clocks: dict[int, Growing], source: Source) -> Moments:
    """The times of all files, each in its own unit, which goes into the source's report.

    Args:
        clocks: number of the file -> its times; rows follow each other in this order. They are used up.

    Raises:
        PalateError: a file has times of several units, that may be dates, or outside of the years 1 to 9999.
    """
    units: dict[int, Unit] = {}
    whole, beyond = np.empty(sum(map(len, clocks.values())), np.int64), None
    start = 0
    for file in list(clocks):
        times = clocks.pop(file).done()
        fixed = source.time_unit if isinstance(source.time_unit, str) else source.time_unit[file]
        units[file] = _judged(times, source, start) if fixed == "auto" else fixed
        _refuse_out_of_range(times, units[file], source, start)
        for rows in row_blocks(len(times)):
            place = slice(start + rows.start, start + rows.stop)
            whole[place], fine = moments(times[rows], units[file])
            if fine is not None:
                beyond = np.zeros(len(whole), np.int32) if beyond is None else beyond
                beyond[place] = fine
        start += len(times)
    several = len(set(units.values())) > 1
    names = {source.files[file].name: unit for file, unit in units.items()} if several else {}
    source.report["time_unit"] = names or next(iter(units.values()))
    return whole, beyond


def _judged(times: npt.NDArray[Any], source: Source, start: int) -> Unit:
    """The unit by the size of all numbers of one file; ``start`` is the row of its first one."""
    unit, smaller = judge(times)
    if len(smaller):
        low, high = int(smaller[0]), int(np.argmax(np.abs(times.astype(np.float64))))
        shown = [
            f"{_plain(times[row])} ({source.row(start + row)}) looks like {UNITS[unit_of(times[row].item())]}"
            for row in (low, high)
        ]
        raise PalateError(
            f"times of several units in one column: {' and '.join(shown)}",
            "Correct or remove the wrong rows, or give the unit of all: --time-unit s, ms, us or ns.",
        )
    written = calendar_format(times)
    if written is not None:
        raise PalateError(
            f"{source.row(start)}: the time {_plain(times[0])} may be a date or a number of {UNITS[unit]}",
            f"Say which: --time-format {written}, or --time-unit {unit}.",
        )
    return unit


def _refuse_out_of_range(times: npt.NDArray[Any], unit: Unit, source: Source, start: int) -> None:
    row = out_of_range(times, unit)
    if row is not None:
        raise PalateError(
            f"{source.row(start + row)}: the time {_plain(times[row])}, in {UNITS[unit]}, "
            "is outside of the years 1 to 9999",
            "Correct or remove the row, or give the right --time-unit.",
        )


def _plain(value: Any) -> str:
    """A number as people write it: whole ones without a point."""
    number = value.item()
    return str(int(number)) if number == int(number) else str(number)
