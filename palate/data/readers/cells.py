"""Columns of text that hold something else in every cell: numbers, or true and false."""

from __future__ import annotations

from collections.abc import Collection

import polars as pl

# A code, not a number: 0071 and 71 are two.
_CODE = r"^[+-]?0\d"
_WHOLE = r"^[+-]?\d+$"
_TRUTH = ("true", "false")


def typed_columns(frame: pl.DataFrame, text: Collection[str], truth: bool = False) -> list[pl.Expr]:
    """The columns in which every cell is a number, as numbers; codes with leading zeros, and whole numbers too large
    to be kept exactly, stay text.

    Args:
        frame: columns of text.
        text: columns that stay text whatever they hold.
        truth: whether columns of ``true`` and ``false`` are converted too.
    """
    typed: list[pl.Expr] = []
    for name in frame.columns:
        cells = frame[name].drop_nulls()
        if name in text or not len(cells) or cells.str.contains(_CODE).any():
            continue
        if truth and cells.is_in(_TRUTH).all():
            typed.append(pl.col(name) == "true")
            continue
        for kind in (pl.Int64, pl.Float64):
            read = cells.cast(kind, strict=False)
            exact = kind == pl.Int64 or (read.is_finite().all() and not cells.str.contains(_WHOLE).all())
            if not read.is_null().any() and exact:
                typed.append(pl.col(name).cast(kind))
                break
    return typed
