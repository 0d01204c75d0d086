"""The dataset that a later log is appended to: its rows come first, and its users and items keep their indices."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from palate.data.catalogue_update import update_rows
from palate.data.dataset import Dataset
from palate.data.kept_log import KeptLog
from palate.data.log import Log, encode
from palate.data.numbering import recode
from palate.data.readers.base import Source
from palate.data.unpacked import gather_pictures
from palate.errors import PalateError
from palate.storage.files import file_digest


@dataclass(frozen=True)
class Parent:
    """A dataset with the log that it has kept."""

    dataset: Dataset
    kept: KeptLog

    @classmethod
    def of(cls, dataset: Dataset) -> Parent:
        """The parent for appending.

        Raises:
            PalateError: it has kept no log.
        """
        if dataset.log is None:
            raise PalateError(
                f"the dataset {dataset.folder or dataset.name} has kept no log, so nothing can be appended to it",
                "Prepare it again with --keep-log: what its filters left out counts too when more comes.",
            )
        return cls(dataset, dataset.log)

    @cached_property
    def log(self) -> Log:
        """The kept rows; the codes of the dataset's users and items are their indices (of items less 1)."""
        kept = self.kept.log()
        users, user_codes = _first(self.dataset.user_ids, kept.user_ids)
        items, item_codes = _first(self.dataset.catalogue.frame["item_id"], kept.item_ids)
        return replace(kept, users=user_codes[kept.users], items=item_codes[kept.items], user_ids=users, item_ids=items)

    def join(self, source: Source) -> tuple[Log, dict[str, int]]:
        """The kept rows and, after them, those of a source that are not among them.

        Returns:
            The log, and counts for the manifest: rows ``read``, ``already_there`` (the same user, item and time: left
            out) and ``earlier`` than the last of the kept rows.

        Raises:
            PalateError: the source's rows are not complete, or only one of the two has times or ratings.
        """
        old = self.log
        new = encode(source, old.user_ids, old.item_ids)
        for name, word in (("timestamps", "times"), ("weights", "ratings")):
            there = [getattr(log, name) is not None for log in (old, new)]
            if there[0] != there[1]:
                names = ["the dataset that is appended to", source.where]
                raise PalateError(
                    f"{names[there.index(True)]} has {word}, and {names[there.index(False)]} has none",
                    "Append a log with the columns of the first one.",
                )
        known = _already_there(old, new)
        counts = {"read": len(new), "already_there": int(known.sum()), "earlier": 0}
        if old.timestamps is not None and new.timestamps is not None:
            counts["earlier"] = int((new.timestamps[~known] < old.timestamps.max()).sum())
        joined = _concatenated(old, new.take(~known))
        return replace(joined, first_users=self.dataset.num_users, first_items=self.dataset.num_items), counts

    def update(self, rows: pl.DataFrame, source: Source) -> tuple[pl.DataFrame, Source, int]:
        """The catalogue's rows brought up to date by a source's, which may lack titles and pictures.

        Pictures stay where they are while all are in one folder. Otherwise they are put together in a new one.

        Returns:
            The rows with the column ``image``, the source with the folder of all pictures, and how many rows changed.
        """
        old = self.kept.item_rows()
        pictured = pl.DataFrame({"item_id": list(source.images)}, schema={"item_id": pl.String})
        pictured = pictured.join(old, on="item_id", how="semi").join(rows, on="item_id", how="anti")
        rows = pl.concat([rows, pictured], how="diagonal")
        found = pl.Series([source.images.get(item) for item in rows["item_id"]], dtype=pl.String)
        rows = rows.with_columns(image=rows["image"].fill_null(found) if "image" in rows.columns else found)
        mine, theirs = self.dataset.catalogue.root, source.root
        folder = self.dataset.folder
        inside = folder is not None and mine.resolve().is_relative_to(folder.resolve())
        pictures = bool(rows["image"].null_count() < len(rows) or source.images)
        if old["image"].null_count() == len(old):
            source = replace(source, root=theirs if pictures else mine)
        elif not inside and (not pictures or mine.resolve() == theirs.resolve()):
            source = replace(source, root=mine)
        else:
            rows, source = self._gathered(old, rows, source)
        merged, changed = update_rows(old, rows, source.where)
        return merged, source, changed

    def _gathered(self, old: pl.DataFrame, rows: pl.DataFrame, source: Source) -> tuple[pl.DataFrame, Source]:
        """The pictures of both in a new folder; those of the source under names of their own."""
        prefix = f"added-{len(self.dataset.manifest.get('appended', ())) + 1}/"
        same = _same_pictures(old, rows, self.dataset, source)
        rows = rows.with_columns(image=pl.when(~pl.col("item_id").is_in(same)).then(pl.lit(prefix) + pl.col("image")))
        images = {item: prefix + name for item, name in source.images.items() if item not in same}
        added = {*rows["image"].drop_nulls(), *images.values()}
        places = {name: self.dataset.catalogue.root / name for name in old["image"].drop_nulls()}
        places |= {name: source.root / name.removeprefix(prefix) for name in added}
        return rows, replace(source, images=images, root=gather_pictures(places))


def _first(first: pl.Series, others: pl.Series) -> tuple[pl.Series, npt.NDArray[np.uint32]]:
    """``first``, then those of ``others`` that are not among them; and the new code of each of ``others``."""
    more = others.filter(~others.is_in(first.implode()))
    ids = pl.concat([first.cast(pl.String).rename("id"), more.cast(pl.String).rename("id")])
    return ids, recode(others, ids).astype(np.uint32)


def _already_there(old: Log, new: Log) -> npt.NDArray[np.bool_]:
    """Which new rows are old ones too: of the same user and item at the same time. Without times none is known."""
    if old.timestamps is None or new.timestamps is None:
        return np.zeros(len(new), np.bool_)
    near = (old.timestamps >= new.timestamps.min()) & (old.timestamps <= new.timestamps.max())
    frames = [
        pl.DataFrame({"user": log.users, "item": log.items, "time": log.timestamps, "beyond": _beyond(log)})
        for log in (old.take(near), new)
    ]
    found = frames[1].with_row_index("row").join(frames[0], on=["user", "item", "time", "beyond"], how="semi")["row"]
    mask = np.zeros(len(new), np.bool_)
    mask[found.to_numpy()] = True
    return mask


def _beyond(log: Log) -> npt.NDArray[np.int32]:
    return np.zeros(len(log), np.int32) if log.beyond is None else log.beyond


def _concatenated(old: Log, new: Log) -> Log:
    """The rows of both; the tables of ``new`` begin with those of ``old``."""
    columns: dict[str, Any] = {
        name: np.concatenate([old.columns[name], new.columns[name]])
        for name in ("users", "items", "timestamps", "weights")
        if name in old.columns
    }
    if old.beyond is not None or new.beyond is not None:
        columns["beyond"] = np.concatenate([_beyond(old), _beyond(new)])
    return replace(new, **columns)


def _same_pictures(old: pl.DataFrame, rows: pl.DataFrame, dataset: Dataset, source: Source) -> set[str]:
    """Items whose picture in the source has the bytes of the one that they have."""
    both = old.select("item_id", "image").join(rows.select("item_id", new="image"), on="item_id").drop_nulls()
    same = set()
    for item, before, now in both.iter_rows():
        paths = dataset.catalogue.root / before, source.root / now
        if all(path.is_file() for path in paths) and file_digest(paths[0]) == file_digest(paths[1]):
            same.add(item)
    return same
