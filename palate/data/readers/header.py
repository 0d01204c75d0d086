"""Whether the first line of a log names its columns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import polars as pl

from palate.data.readers.text import Delimited
from palate.errors import PalateError

_VALUE = re.compile(r"\s*(?:[+-]?\d+(?:[.,]\d+)?(?:[eE][+-]?\d+)?|\d{4}-\d\d-\d\d\b.*)\s*")
_LOOK_AT = 1000


def seems_data(names: Sequence[str]) -> bool:
    """Whether column names are rather values: some are numbers or dates, and not just the columns' numbers.

    >>> seems_data(["A1", "B003", "5.0", "1400000300"]), seems_data(["user", "item"]), seems_data(["0", "1", "2"])
    (True, False, False)
    """
    return any(map(_VALUE.fullmatch, names)) and not _counted(names)


def refuse_headerless(table: Delimited, columns: Mapping[str, str]) -> None:
    """Refuse a log whose first line is an interaction, which would be lost as the header line.

    Args:
        columns: our name -> the name in the table.
    """
    there = table.columns
    if _counted(there):
        return
    name = next((name for name in columns.values() if _VALUE.fullmatch(name)), None)
    why = "is a value"
    if name is None:
        try:
            some = table.frame.select(list(dict.fromkeys(columns.values()))).head(_LOOK_AT).collect()
        except pl.exceptions.PolarsError:
            return  # what is wrong is said when it is read
        name = next((name for name in some.columns if (some[name] == name).any()), None)
        why = "comes again in its column"
    if name is not None:
        places = ",".join(f"{ours}={there.index(theirs) + 1}" for ours, theirs in columns.items())
        raise PalateError(
            f"{table.path}: the first line seems to be an interaction, and no header line: '{name}' {why}",
            f"Say --no-header and number the columns: --columns {places}; or correct the first line.",
        )


def _counted(names: Sequence[str]) -> bool:
    return any(list(names) == [str(place) for place in range(first, first + len(names))] for first in (0, 1))
