"""``user_sequence.txt``, one line per user with its items oldest first, and the item files beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from palate.data.readers.base import ReaderOptions, Source
from palate.data.readers.items import read_items
from palate.data.readers.pictures import pictures_of
from palate.data.readers.text import scan_lines, unreadable
from palate.errors import PalateError

LOG = "user_sequence.txt"


class SequenceFiles:
    """The split-free sequence files of the literature: no times, no ratings."""

    takes: ClassVar[frozenset[str]] = frozenset()

    def read(self, source: Path, options: ReaderOptions) -> Source:
        log = source if source.is_file() else source / LOG
        if not log.is_file():
            raise PalateError(
                f"{source} has no {LOG}",
                "Expected: one line per user: its id, then its items, oldest first, with spaces between.",
            )
        folder = log.parent
        images, root = pictures_of(folder, options.images, "images")
        interactions, report = sequence_rows(log)
        catalogue, files = read_items(folder)
        return Source(interactions, [log, *files], catalogue, images, root, report=report)


def sequence_rows(path: Path) -> tuple[pl.LazyFrame, dict[str, Any]]:
    """Interactions of a file with one line per user (id, then items, by spaces or tabs), and a report of it."""
    words = pl.col("line").str.replace_all("\t", " ", literal=True).str.split(" ")
    rows = scan_lines(path).select(words=words.list.eval(pl.element().filter(pl.element() != "")))
    try:
        alone = rows.select((pl.col("words").list.len() < 2).sum()).collect(engine="streaming").item()
    except pl.exceptions.PolarsError as error:
        raise unreadable(path, error) from None
    pairs = (
        rows.filter(pl.col("words").list.len() > 1)
        .select(user=pl.col("words").list.first(), item=pl.col("words").list.slice(1))
        .explode("item")
    )
    return pairs, {"users_without_items": int(alone)} if alone else {}
