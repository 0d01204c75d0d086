"""What is kept of an answer and of what was taken from it, and how a journal of it becomes a table."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from palate.storage.files import atomic_file
from palate.storage.tables import scan_ndjson

_LINE = {
    "time": pl.Int64,
    "request": pl.String,
    "user": pl.String,
    "variant": pl.String,
    "event": pl.String,
    "kind": pl.String,
    "items": pl.List(pl.String),
    "positions": pl.List(pl.Int32),
}


@dataclass(frozen=True)
class Event:
    """One answer that was shown, or items that were taken at one time.

    Attributes:
        time: Unix milliseconds.
        request: id of the answer; None: what was taken came from elsewhere.
        variant: name of the model that answered, where it is known.
        kind: how it was taken; None for what was shown.
        positions: of each item in the answer, from 1; None: it was not shown there, or that is not known.
    """

    time: int
    request: str | None
    user: str | None
    variant: str | None
    event: Literal["shown", "taken"]
    kind: str | None
    items: Sequence[str]
    positions: Sequence[int | None]

    def line(self) -> str:
        """One line of a journal."""
        return json.dumps(asdict(self), separators=(",", ":")) + "\n"


def write_table(journal: Path, table: Path) -> int:
    """Write a journal as Parquet, one row per item, whole and on the disk; returns how many rows it has.

    Columns: ``time`` int64 Unix milliseconds, ``request``, ``user``, ``item`` string, ``position`` int32 from 1,
    ``variant``, ``event`` (``shown`` or ``taken``) and ``kind`` string.

    Raises:
        PalateError: the disk is full.
        polars.exceptions.PolarsError: the journal is damaged.
    """
    lines = scan_ndjson(journal, schema=_LINE).collect()
    rows = lines.explode("items", "positions").select(
        "time", "request", "user", pl.col("items").alias("item"), pl.col("positions").alias("position"),
        "variant", "event", "kind",
    )  # fmt: skip
    with atomic_file(table) as part:
        rows.write_parquet(part)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
    sync_folder(table.parent)
    return len(rows)


def sync_folder(folder: Path) -> None:
    """Make a new or removed name in a folder last, where the system can."""
    try:
        opened = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(opened)
    except OSError:
        pass
    finally:
        os.close(opened)
