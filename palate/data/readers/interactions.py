"""``interactions.tsv``: one row per interaction under a header line, with a catalogue and pictures beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import polars as pl

from palate.data.readers.base import ReaderOptions, Source
from palate.data.readers.find import one_file
from palate.data.readers.header import refuse_headerless
from palate.data.readers.items import read_items
from palate.data.readers.pictures import pictures_of
from palate.data.readers.quotes import AUTO
from palate.data.readers.shape import explain_cell, pick_columns, shape_interactions
from palate.data.readers.text import Delimited, scan_delimited, unreadable
from palate.data.readers.times import unused_times
from palate.errors import PalateError

_SEPARATORS = {"interactions.tsv": "\t", "interactions.csv": ","}
# "Rated 3 or more": 1 is a like and 0 a dislike, so it serves as the weight where there is no rating.
_LIKED = "ge3"


class InteractionFiles:
    """``interactions.tsv`` (user, item, timestamp, and a rating, a weight or ``ge3``), item files and pictures."""

    takes: ClassVar[frozenset[str]] = frozenset({"columns", "time_unit", "time_format", "quote", "no_header"})

    def read(self, source: Path, options: ReaderOptions) -> Source:
        log = one_file(source, _SEPARATORS.__contains__, "interactions.tsv or interactions.csv")
        commas = log.suffix.lower() == ".csv"
        quoted = commas or options.quote != AUTO
        table = scan_delimited(
            log, "," if commas else "\t", quoted=quoted, quote=options.quote, header=not options.no_header
        )
        there = table.columns
        columns = pick_columns(there, options.columns, str(log))
        if "weight" not in {**columns, **options.columns} and _LIKED in there:
            columns["weight"] = _LIKED
        if not options.no_header:
            refuse_headerless(table, columns)
        try:
            interactions, unit = shape_interactions(table.frame, columns, str(log), options.time_format)
        except pl.exceptions.PolarsError as error:
            raise _explain(table, None, columns, None) or unreadable(log, error) from None
        catalogue, files = read_items(log.parent)
        images, root = pictures_of(log.parent, options.images, "images", "posters")
        return Source(
            interactions=interactions,
            files=[log, *files],
            catalogue=catalogue,
            images=images,
            root=root,
            time_unit=options.time_unit if unit == "auto" else unit,
            explain=lambda row: _explain(table, row, columns, options.time_format),
            locate=table.at,
            unused_times=unused_times(table.frame.collect_schema(), columns, options.columns),
        )


def _explain(
    table: Delimited, row: int | None, columns: Mapping[str, str], time_format: str | None
) -> PalateError | None:
    if row is None:
        return table.explain(None, columns)
    return explain_cell(table.cells(row), columns, table.at(row), time_format)
