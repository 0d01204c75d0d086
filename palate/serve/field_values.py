"""What the fields of a catalogue hold, to suggest conditions from: frequent values, and the range of numbers."""

from __future__ import annotations

import polars as pl

from palate.data.catalogue import Catalogue
from palate.serve import schema

# Values that are suggested at most, and characters of one: whole sentences are no values to choose from.
_MOST_VALUES, _LONGEST = 30, 80
# A field with more values than this suggests only those that at least two items share.
_FEW = 30


def summarise_fields(catalogue: Catalogue) -> list[schema.FieldSummary]:
    """One summary per field that conditions can name beside id and title. Takes long on large catalogues."""
    return [_summarise(catalogue.frame[name]) for name in catalogue.fields]


def _summarise(column: pl.Series) -> schema.FieldSummary:
    cells = column.explode() if isinstance(column.dtype, pl.List) else column
    if cells.dtype.is_numeric():
        known = cells.drop_nulls().drop_nans() if cells.dtype.is_float() else cells.drop_nulls()
        finite = known.filter(known.is_finite()) if known.dtype.is_float() else known
        ends = (None, None) if finite.is_empty() else (float(finite.min()), float(finite.max()))  # type: ignore[arg-type]
        return schema.FieldSummary(name=column.name, kind="number", low=ends[0], high=ends[1], values=[])
    try:
        texts = cells.cast(pl.String).drop_nulls()
    except pl.exceptions.PolarsError:  # structures: no condition can name their values
        return schema.FieldSummary(name=column.name, kind="text", low=None, high=None, values=[])
    short = texts.alias("value").to_frame().filter(pl.col("value").str.len_chars().is_between(1, _LONGEST))
    counts = short.group_by("value").len("items")
    if len(counts) > _FEW:
        counts = counts.filter(pl.col("items") > 1)
    best = counts.sort(["items", "value"], descending=[True, False]).head(_MOST_VALUES)
    values = [schema.FieldValue(value=value, items=items) for value, items in best.iter_rows()]
    return schema.FieldSummary(name=column.name, kind="text", low=None, high=None, values=values)
