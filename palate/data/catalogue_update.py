"""A catalogue's rows brought up to date by those of a later one."""

from __future__ import annotations

from typing import Any

import polars as pl

from palate.errors import PalateError


def update_rows(old: pl.DataFrame, new: pl.DataFrame, where: str) -> tuple[pl.DataFrame, int]:
    """Rows of old items in their order, then those of new ones.

    A cell of ``new`` replaces that of the same item; an empty cell, or a column that is not there, changes nothing.

    Args:
        old, new: ``item_id``, each once, and columns as :func:`~palate.data.tidy.tidy` leaves them.
        where: of ``new``, for messages.

    Returns:
        The rows, and how many old items have changed.

    Raises:
        PalateError: a column holds another kind of values than before.
    """
    names = [name for name in new.columns if name != "item_id"]
    for name in names:
        if name in old.columns:
            kind = _common(name, old[name], new[name], where)
            old, new = old.with_columns(pl.col(name).cast(kind)), new.with_columns(_cast(new[name], kind))
    joined = old.join(new, on="item_id", how="left", maintain_order="left", suffix="\0new")
    shared = [name for name in names if name in old.columns]
    later = [pl.col(f"{name}\0new") for name in shared]
    changed = [later.is_not_null() & later.ne_missing(pl.col(name)) for name, later in zip(shared, later, strict=True)]
    changed += [pl.col(name).is_not_null() for name in names if name not in shared]
    count = int(joined.select(pl.any_horizontal(changed).sum()).item()) if changed else 0
    merged = joined.select(
        *(pl.coalesce(f"{name}\0new", name).alias(name) if name in shared else pl.col(name) for name in old.columns),
        *(name for name in names if name not in shared),
    )
    added = new.join(old, on="item_id", how="anti", maintain_order="left")
    return pl.concat([merged, added], how="diagonal"), count


def _common(name: str, old: pl.Series, new: pl.Series, where: str) -> Any:
    """The type that holds the cells of both."""
    kinds = old.dtype, new.dtype
    if kinds[0] == kinds[1] or new.null_count() == len(new):
        return kinds[0]
    if old.null_count() == len(old):
        return kinds[1]
    if kinds[0] == pl.String and not kinds[1].is_nested():
        return pl.String  # a column of codes in which tonight's cells are all numbers
    if kinds[0].is_numeric() and kinds[1].is_numeric():
        return pl.Float64 if kinds[0].is_float() or kinds[1].is_float() else pl.Int64
    if kinds[0].is_numeric() and kinds[1] == pl.String:
        words = new.filter(new.is_not_null() & new.cast(kinds[0], strict=False).is_null())
        if not len(words):
            return kinds[0]
        raise PalateError(
            f"{where}: the column '{name}' holds the text '{words[0]}', and numbers in the dataset that is appended to",
            f"Correct it, or leave the column out: --item-columns {name}=",
        )
    raise PalateError(
        f"{where}: the column '{name}' holds {kinds[1]}, and {kinds[0]} in the dataset that is appended to",
        f"Make them alike, or leave the column out: --item-columns {name}=",
    )


def _cast(column: pl.Series, kind: Any) -> pl.Series:
    """Whole numbers as text have no decimals, as in a file."""
    if kind == pl.String and column.dtype.is_float():
        whole = column.cast(pl.Int64, strict=False)
        return (
            pl.DataFrame({"n": column, "whole": whole})
            .select(
                pl.when(pl.col("n") == pl.col("whole"))
                .then(pl.col("whole").cast(pl.String))
                .otherwise(pl.col("n").cast(pl.String))
                .alias(column.name)
            )
            .to_series()
        )
    return column.cast(kind)
