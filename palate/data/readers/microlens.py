"""MicroLens: short videos with titles and covers."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import polars as pl

from palate.data.readers.base import ReaderOptions, Source
from palate.data.readers.find import one_file
from palate.data.readers.pictures import pictures_of
from palate.data.readers.sequences import sequence_rows
from palate.data.readers.text import scan_delimited, unreadable

_NAMES = ("user", "item", "timestamp")


class MicroLens:
    """``*_pairs.csv`` (user,item,timestamp) or ``*_pairs.tsv`` (user, then items oldest first), titles and covers."""

    takes: ClassVar[frozenset[str]] = frozenset({"quote"})

    def read(self, source: Path, options: ReaderOptions) -> Source:
        # The CSV has the times, so where both are there it is the one to read.
        timed = source.is_dir() and any(source.glob("*_pairs.csv"))
        ending = "_pairs.csv" if timed else "_pairs.tsv"
        log = one_file(source, lambda name: name.endswith(ending), "*_pairs.csv or *_pairs.tsv")
        folder, files = log.parent, [log]
        titles = sorted(folder.glob("*_title*.csv"))
        catalogue = None
        if titles:
            path = one_file(folder, lambda name: name.endswith(".csv") and "_title" in name, "titles file")
            catalogue = _titles(path, options.quote)
            files.append(path)
        covers = sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name.endswith("covers"))
        images, root = pictures_of(folder, options.images, *covers)
        if log.suffix == ".csv":
            table = scan_delimited(log, ",", quote=options.quote)
            columns = {name: name for name in _NAMES}
            return Source(
                interactions=table.interactions(columns),
                files=files,
                catalogue=catalogue,
                images=images,
                root=root,
                explain=lambda row: table.explain(row, columns),
                locate=table.at,
            )
        interactions, report = sequence_rows(log)
        return Source(interactions, files, catalogue, images, root, report=report)


def _titles(path: Path, quote: str) -> pl.DataFrame:
    """``item,title`` with or without a header line."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        header = file.readline().strip().replace('"', "").lower() == "item,title"
    table = scan_delimited(path, ",", names=None if header else ("item", "title"), quote=quote)
    try:
        return table.frame.select(pl.col("item").alias("item_id"), "title").collect()
    except pl.exceptions.PolarsError as error:
        raise unreadable(path, error) from None
