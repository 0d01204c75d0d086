"""Amazon's ratings without reviews: ``.csv`` of user, item, rating and time; without a header line until 2018."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from palate.data.readers.base import Source
from palate.data.readers.lines import open_text
from palate.data.readers.text import Delimited, scan_delimited, unreadable
from palate.errors import PalateError

_NAMES = ("user", "item", "weight", "timestamp")
_2023 = {"user": "user_id", "item": "parent_asin", "weight": "rating", "timestamp": "timestamp"}
_ASIN = r"^[0-9A-Z]{10}$"
_LOOK_AT = 1000


def read_ratings(path: Path) -> Source:
    """The ratings of 2014 (user, item, ...), 2018 (item, user, ...) or 2023 (with a header line).

    Raises:
        PalateError: the file has other columns.
    """
    columns = {name: name for name in _NAMES}
    header = _first_line(path)
    if set(_2023.values()) <= set(header):
        table, columns = scan_delimited(path, ","), _2023
    elif len(header) == 4 and _is_number(header[2]) and _is_number(header[3]):
        table = scan_delimited(path, ",", names=_NAMES)
        if _item_first(table):
            columns |= {"user": "item", "item": "user"}
    else:
        raise PalateError(
            f"{path} holds no Amazon ratings (its first row is {','.join(header)})",
            f"Expected user,item,rating,time without a header line, or the columns {', '.join(_2023.values())}; "
            "`--reader table` takes any columns.",
        )
    return Source(
        interactions=table.interactions(columns),
        files=[path],
        explain=lambda row: table.explain(row, columns),
        locate=table.at,
    )


def _first_line(path: Path) -> list[str]:
    try:
        with open_text(path) as file:
            return [cell.strip().strip('"') for cell in file.readline().split(",")]
    except (OSError, EOFError) as error:
        raise unreadable(path, error) from None


def _is_number(text: str) -> bool:
    return pl.Series([text]).cast(pl.Float64, strict=False)[0] is not None


def _item_first(table: Delimited) -> bool:
    """Whether only the first column has ids of ten letters and digits, as all items of Amazon have."""
    cells = pl.col("user", "item").str.contains(_ASIN).all()
    try:
        first, second = table.frame.head(_LOOK_AT).select(cells).collect().row(0)
    except pl.exceptions.PolarsError as error:
        raise table.explain(None, {}) or unreadable(table.path, error) from None
    return bool(first and not second)
