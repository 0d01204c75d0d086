"""The Dataset: interactions, catalogue, id maps, split and manifest, one folder of Parquet and JSON."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from palate.data.blocks import count, count_by_user
from palate.data.catalogue import Catalogue
from palate.data.folder import (
    CARRIED,
    DISLIKES,
    DROPPED,
    IMAGES,
    IMPRESSIONS,
    LOG,
    check_replaceable,
    dislikes_frame,
    load_dislikes,
    load_interactions,
)
from palate.data.impressions import Impressions, load_impressions
from palate.data.kept_log import KeptLog
from palate.data.sequences import Sequences, offsets_of
from palate.data.unpacked import copy_pictures, is_unpacked
from palate.errors import PalateError, one_line
from palate.storage.files import Hashed, atomic_folder, digest, no_artefact, read_json, write_json
from palate.storage.remote import local, recorded, takes_urls, under
from palate.storage.tables import read_parquet, scan_parquet

FORMAT = 1


class Part(IntEnum):
    """What an interaction is used for. ``CONTEXT`` is history that is never trained on (held-out users)."""

    TRAIN = 0
    VALID = 1
    TEST = 2
    CONTEXT = 3


@dataclass(frozen=True)
class Cases:
    """The cases of an evaluation: for each user, find the targets from the history.

    Attributes:
        users: int64 ``[cases]``, rows of the dataset's user table.
        histories: what the user did before the first target, oldest first; with times, asked for what follows when
            that target was taken.
        targets: the held-out items of the user, oldest first (one under leave-last-out).
    """

    users: npt.NDArray[np.int64]
    histories: Sequences
    targets: Sequences

    def __len__(self) -> int:
        return len(self.users)

    def take(self, rows: npt.ArrayLike) -> Cases:
        index = np.asarray(rows, np.int64)
        return Cases(self.users[index], self.histories.take(index), self.targets.take(index))


@dataclass(frozen=True)
class Dataset:
    """Interactions in user order, each user's oldest first, with what each is used for.

    Attributes:
        catalogue: the items.
        user_ids: user ids from outside; the row is the user index (0-based).
        offsets: int64 ``[users + 1]``: user ``u`` owns rows ``offsets[u]:offsets[u + 1]`` of the arrays below.
        items: int32 ``[interactions]`` item indices, 1-based.
        parts: uint8 ``[interactions]``, see :class:`Part`.
        timestamps: int64 ``[interactions]`` Unix milliseconds, or None where the source has no times.
        weights: float32 ``[interactions]`` ratings or counts, or None.
        manifest: source, filters with before/after counts, split, hashes.
        dislikes: item indices that a user explicitly disliked, one row per user (most may be empty), oldest first; or
            None where none were requested. True negatives for training: none is later than the user's last training
            interaction, and none is an item of the user above. Never part of histories or evaluation.
        dislike_times: int64 Unix milliseconds of their values, or None.
        impressions: what users were shown and what they took of it, or None where no feedback was read.
        dropped: ``item_id`` and ``step`` of the source's items that are not in the dataset; or None where not known.
        log: what was read before the filters, or None where that was not kept.
        folder: where it was read from, or None.
    """

    catalogue: Catalogue
    user_ids: pl.Series
    offsets: npt.NDArray[np.int64]
    items: npt.NDArray[np.int32]
    parts: npt.NDArray[np.uint8]
    timestamps: npt.NDArray[np.int64] | None
    weights: npt.NDArray[np.float32] | None
    manifest: dict[str, Any]
    dislikes: Sequences | None = None
    dislike_times: npt.NDArray[np.int64] | None = None
    impressions: Impressions | None = None
    dropped: pl.LazyFrame | None = field(default=None, compare=False)
    log: KeptLog | None = field(default=None, compare=False)
    folder: Path | None = field(default=None, compare=False)

    @property
    def num_users(self) -> int:
        return len(self.user_ids)

    @property
    def num_items(self) -> int:
        """Items in the catalogue; indices run from 1 to this number."""
        return len(self.catalogue)

    def __len__(self) -> int:
        """Number of interactions."""
        return len(self.items)

    def __repr__(self) -> str:
        sizes = f"{self.num_users:,} users, {self.num_items:,} items, {len(self):,} interactions"
        return f"Dataset({self.name}: {sizes})"

    @property
    def name(self) -> str:
        return str(self.manifest.get("name", "dataset"))

    def _row_users(self) -> npt.NDArray[np.uint32]:
        return np.repeat(np.arange(self.num_users, dtype=np.uint32), np.diff(self.offsets))

    def users_at(self, rows: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """int64: the user index of some rows, without that of all as :attr:`rows_user` has it."""
        return np.searchsorted(self.offsets, rows, side="right").astype(np.int64) - 1

    @cached_property
    def rows_user(self) -> npt.NDArray[np.int64]:
        """int64 ``[interactions]``: the user index of every row."""
        return np.repeat(np.arange(self.num_users), np.diff(self.offsets))

    @property
    def sequences(self) -> Sequences:
        """Every user's interactions whatever they are used for, oldest first, with their times where there are any."""
        return Sequences(self.items, self.offsets, self.timestamps)

    def train_sequences(self, times: bool = False) -> Sequences:
        """Every user's training interactions, oldest first (empty for held-out users).

        Args:
            times: with their times, where the source has any.
        """
        mask = self.parts == Part.TRAIN
        return self._rows(mask, count_by_user(mask, self.offsets), times)

    def _rows(self, mask: npt.NDArray[np.bool_], lengths: npt.NDArray[np.int64], times: bool = False) -> Sequences:
        known = None if self.timestamps is None or not times else self.timestamps[mask]
        return Sequences(self.items[mask], offsets_of(lengths), known)

    def _case_rows(
        self, split: Literal["valid", "test"]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Users with a target, int64 ``[cases]``; masks of the rows of their targets and of their histories."""
        part = {"valid": Part.VALID, "test": Part.TEST}[split]
        is_target = self.parts == part
        before = (self.parts == Part.TRAIN) | (self.parts == Part.CONTEXT)
        if part is Part.TEST:
            before |= self.parts == Part.VALID
        has_target = count_by_user(is_target, self.offsets) > 0
        if not has_target.all():
            before &= np.repeat(has_target, np.diff(self.offsets))
        return np.flatnonzero(has_target), is_target, before

    def history_lengths(self, split: Literal["valid", "test"]) -> npt.NDArray[np.int64]:
        """int64 ``[cases]``: ``cases(split).histories.lengths``, without the histories themselves."""
        users, _, before = self._case_rows(split)
        return count_by_user(before, self.offsets)[users]

    def cases(self, split: Literal["valid", "test"], times: bool = True) -> Cases:
        """Evaluation cases of a split: targets are its interactions, histories all that came before them.

        Users with no target in the split are left out. Under leave-last-out the validation item is part of
        the test history, as everywhere in the field.

        Args:
            times: histories with their times, where the source has any, and asked for what follows when the first
                target was taken. They are twice as large as the items: a model that does not read them needs none.
        """
        users, is_target, before = self._case_rows(split)
        histories, targets = (
            self._rows(mask, count_by_user(mask, self.offsets)[users], times) for mask in (before, is_target)
        )
        if targets.times is not None:
            histories = replace(histories, asked=targets.times[targets.offsets[:-1]])
        return Cases(users, histories, replace(targets, times=None))

    def sampled_cases(self, split: Literal["valid", "test"], users: int, seed: int, times: bool = True) -> Cases:
        """The cases of a split, or at most ``users`` of them, drawn by the seed; 0 means all."""
        cases = self.cases(split, times)
        return cases if not users or users >= len(cases) else cases.take(self.sample(len(cases), users, seed))

    @staticmethod
    def sample(cases: int, users: int, seed: int) -> npt.NDArray[np.int64]:
        """int64, ascending: which of a number of cases are drawn."""
        if not users or users >= cases:
            return np.arange(cases)
        return np.sort(np.random.default_rng([seed, 3]).choice(cases, users, replace=False))

    @cached_property
    def train_counts(self) -> npt.NDArray[np.int64]:
        """int64 ``[num_items + 1]``: training interactions of each item (cold items have none; padding 0)."""
        return count(self.items, self.num_items + 1, self.parts == Part.TRAIN)

    @cached_property
    def user_index(self) -> dict[str, int]:
        return {user: row for row, user in enumerate(self.user_ids.to_list())}

    def history_of(self, user: str) -> npt.NDArray[np.int32]:
        """All interactions of a user, oldest first, for serving. The user is named by its id from outside."""
        if user not in self.user_index:
            steps = [f"--{step['step']}" for step in self.manifest.get("filters", []) if _takes_users(step)]
            why = f" Users were left out by {', '.join(steps)}." if steps else ""
            raise PalateError(f"the dataset has no user '{user}'", f"Give an id of users.parquet, or a --history.{why}")
        row = self.user_index[user]
        return self.items[self.offsets[row] : self.offsets[row + 1]]

    @cached_property
    def fingerprint(self) -> str:
        """Hash of interactions, split, catalogue and, if any, dislikes and impressions, whatever folder they are in."""
        arrays = [a for a in (self.offsets, self.items, self.parts, self.timestamps, self.weights) if a is not None]
        whole: list[Hashed] = [*arrays, self.user_ids.str.join("\n").item(), self.catalogue.fingerprint]
        if self.dislikes is not None:  # without any, it stays what it was before there were dislikes
            whole += ["dislikes", self.dislikes.offsets, self.dislikes.values]
            whole += [] if self.dislike_times is None else [self.dislike_times]
        if self.impressions is not None:
            whole += self.impressions.hashed()
        return digest(*whole)

    @takes_urls("folder")
    def save(self, folder: Path | str, *, replace: bool = False) -> None:
        """Write the whole folder, or nothing: interactions, items and users as Parquet, manifest as JSON.

        Pictures stay where they are, except those that came inside a table: they go into ``images/``. A dataset whose
        pictures are inside its own folder may be moved as a whole.
        A replaced dataset's ``features/``, ``images/`` and ``summaries/`` are carried over; stores that no longer fit
        say so when they are used.

        Raises:
            PalateError: something else is in the folder, which would be lost.
        """
        if replace:
            check_replaceable(Path(folder))
        pictures, home = PurePath(recorded(self.catalogue.pictures)), PurePath(recorded(folder))
        unpacked = is_unpacked(self.catalogue.pictures)
        within = pictures != home and pictures.is_relative_to(home)
        columns: dict[str, Any] = {"user": self._row_users(), "item": self.items, "part": self.parts}
        if self.timestamps is not None:
            columns["timestamp"] = self.timestamps
        if self.weights is not None:
            columns["weight"] = self.weights
        carry = [name for name in CARRIED if not (unpacked and name == IMAGES)]
        with atomic_folder(folder, replace=replace, carry=carry) as part:
            pl.DataFrame(columns).write_parquet(part / "interactions.parquet")
            pl.DataFrame({"user_id": self.user_ids}).write_parquet(part / "users.parquet")
            self.catalogue.save(part / "items.parquet")
            manifest = {"format": FORMAT, **self.manifest, "fingerprint": self.fingerprint}
            if self.dislikes is not None:
                dislikes_frame(self.dislikes, self.dislike_times).write_parquet(part / DISLIKES)
            else:
                manifest.pop("dislikes", None)
            if self.impressions is not None:
                self.impressions.frame().write_parquet(part / IMPRESSIONS)
            elif _promises_impressions(manifest):
                manifest.pop("feedback")
            dropped = None if self.dropped is None else self.dropped.collect()
            if dropped is not None and len(dropped):
                dropped.write_parquet(part / DROPPED)
            if self.log is not None:
                self.log.save(part / LOG)
            elsewhere = recorded(self.catalogue.pictures)
            manifest["image_root"] = pictures.relative_to(home).as_posix() if within else elsewhere
            if unpacked:
                more = [] if self.log is None else self.log.image_names()
                copy_pictures([*self.catalogue.frame["image"], *more], self.catalogue.root, part / IMAGES)
                manifest["image_root"] = IMAGES
            write_json(part / "manifest.json", manifest)

    @classmethod
    def opened(cls, dataset: Dataset | Path | str) -> Dataset:
        """The dataset, loaded unless it is."""
        return dataset if isinstance(dataset, Dataset) else cls.load(dataset)

    @classmethod
    def load(cls, folder: Path | str) -> Dataset:
        """Read a folder that :meth:`save` (or ``palate prepare``) wrote."""
        folder = local(folder)
        if not (folder / "manifest.json").is_file():
            raise no_artefact(folder, "a dataset", "manifest.json", "Make one with `palate prepare`.")
        manifest = read_json(folder / "manifest.json")
        if not isinstance(manifest, dict) or "format" not in manifest:
            raise PalateError(f"{folder} is not a dataset (its manifest.json is not Palate's)", "Check the path.")
        if manifest["format"] != FORMAT:
            raise PalateError(
                f"{folder} has dataset format {manifest['format']}, this Palate reads {FORMAT}",
                "Run `palate prepare` again.",
            )
        for key in ("fingerprint", "image_root"):
            if not isinstance(manifest.get(key), str):
                raise PalateError(f"{folder / 'manifest.json'} lacks '{key}'", "Run `palate prepare` again.")
        try:
            user_ids = read_parquet(folder / "users.parquet")["user_id"]
            catalogue = Catalogue.load(folder / "items.parquet", under(folder, manifest["image_root"]))
            lengths, columns = load_interactions(folder, len(user_ids), len(catalogue), max(Part))
        except (OSError, pl.exceptions.PolarsError) as error:
            raise PalateError(f"{folder} is damaged ({one_line(error)})", "Run `palate prepare` again.") from None
        if user_ids.dtype != pl.String or user_ids.null_count():
            raise PalateError(f"{folder} is damaged (a user's id is not text)", "Run `palate prepare` again.")
        dislikes, dislike_times = None, None
        if "dislikes" in manifest or (folder / DISLIKES).is_file():
            dislikes, dislike_times = load_dislikes(folder, len(user_ids), len(catalogue))
        impressions = None
        if _promises_impressions(manifest) or (folder / IMPRESSIONS).is_file():
            impressions = load_impressions(folder, len(user_ids), len(catalogue))
        return cls(
            catalogue=catalogue,
            user_ids=user_ids,
            offsets=offsets_of(lengths),
            items=columns["item"],
            parts=columns["part"],
            timestamps=columns.get("timestamp"),
            weights=columns.get("weight"),
            manifest=manifest,
            dislikes=dislikes,
            dislike_times=dislike_times,
            impressions=impressions,
            dropped=scan_parquet(folder / DROPPED) if (folder / DROPPED).is_file() else None,
            log=KeptLog.open(folder),
            folder=folder,
        )


def _takes_users(step: dict[str, Any]) -> bool:
    return bool(step["after"]["users"] < step["before"]["users"])


def _promises_impressions(manifest: dict[str, Any]) -> bool:
    return bool(manifest.get("feedback", {}).get("kept", {}).get("shown"))
