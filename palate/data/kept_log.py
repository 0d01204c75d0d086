"""``log/`` of a dataset: what was read, before any filter, so that later logs can be appended to it.

::

    DATASET/log/
      interactions.parquet   user (row of users.parquet), item (row of items.parquet), both from 0; where known:
                             timestamp (Unix milliseconds), beyond (nanoseconds after them), weight
      users.parquet          user_id
      items.parquet          the catalogue's rows of all items of the source, also of those that filters left out
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from palate.data.folder import LOG
from palate.data.log import Log
from palate.errors import PalateError, one_line
from palate.storage.tables import scan_parquet

_FILES = ("interactions", "users", "items")
_KINDS = {"timestamp": np.int64, "weight": np.float32, "beyond": np.int32}


@dataclass(frozen=True)
class KeptLog:
    """All rows of a dataset's sources in their order, and the catalogue rows of all their items.

    Attributes:
        interactions: see the module.
        users: ``user_id`` by code.
        items: ``item_id``, ``title``, ``image`` and fields; the items of the interactions by code, then the others.
    """

    interactions: pl.LazyFrame
    users: pl.LazyFrame
    items: pl.LazyFrame

    @classmethod
    def of(cls, log: Log, items: pl.DataFrame) -> KeptLog:
        """Keep a log that no filter has touched.

        Args:
            items: rows of ``log.item_ids`` in their order, and further ones.
        """
        columns = {"user": log.users, "item": log.items}
        columns |= {name: column for name in _KINDS if (column := getattr(log, _attribute(name))) is not None}
        return cls(pl.LazyFrame(columns), pl.LazyFrame({"user_id": log.user_ids}), items.lazy())

    @classmethod
    def open(cls, dataset: Path) -> KeptLog | None:
        """What a dataset's folder has kept, unread; None where it keeps no log."""
        folder = dataset / LOG
        if not folder.is_dir():
            return None
        return cls(*(scan_parquet(folder / f"{name}.parquet") for name in _FILES))

    def save(self, folder: Path) -> None:
        """Write the three files into a new folder."""
        folder.mkdir()
        for name in _FILES:
            _read(getattr(self, name)).write_parquet(folder / f"{name}.parquet")

    def item_rows(self) -> pl.DataFrame:
        """The catalogue's rows of all items.

        Raises:
            PalateError: the file is missing or damaged.
        """
        return _read(self.items)

    def image_names(self) -> list[str]:
        """Pictures of all items."""
        return list(_read(self.items.select(pl.col("image").drop_nulls()))["image"])

    def log(self) -> Log:
        """The rows as arrays.

        Raises:
            PalateError: a file is missing or damaged.
        """
        try:
            rows = self.interactions.collect()
            users, items = self.users.collect()["user_id"], self.items.collect()["item_id"]
            codes = {name: rows[name].to_numpy().astype(np.uint32, casting="same_kind") for name in ("user", "item")}
            columns: dict[str, Any] = {
                _attribute(name): rows[name].to_numpy().astype(kind, casting="same_kind")
                for name, kind in _KINDS.items()
                if name in rows.columns
            }
            sound = all(not rows[name].null_count() for name in rows.columns) and len(rows) > 0
            sound = sound and codes["user"].max() < len(users) and codes["item"].max() < len(items)
        except (OSError, TypeError, pl.exceptions.PolarsError) as error:
            raise _damaged(one_line(error)) from None
        if not sound:
            raise _damaged("its files do not fit together")
        times, weights = columns.pop("timestamps", None), columns.pop("weights", None)
        return Log(codes["user"], codes["item"], users, items, times, weights, beyond=columns.get("beyond"))


def _attribute(name: str) -> str:
    """Of :class:`Log`."""
    return {"timestamp": "timestamps", "weight": "weights"}.get(name, name)


def _read(table: pl.LazyFrame) -> pl.DataFrame:
    try:
        return table.collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise _damaged(one_line(error)) from None


def _damaged(why: str) -> PalateError:
    return PalateError(
        f"the log that the dataset has kept is damaged ({why})", "Run `palate prepare --keep-log` again on all logs."
    )
