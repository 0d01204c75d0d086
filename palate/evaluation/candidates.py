"""Sampled candidates: the targets of each case and ``N`` items that the user never had, the same for every model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from palate.data.dataset import Cases, Dataset
from palate.data.held_out import require_targets
from palate.data.negatives import WeightedDraw
from palate.errors import PalateError, suggest
from palate.evaluation.ranks import Ints
from palate.negatives import NEGATIVES
from palate.negatives.base import WeightedStrategy, is_weighted
from palate.storage.files import atomic_file, digest

_CHUNK = 4096


@dataclass(frozen=True)
class Candidates:
    """What each case is to rank.

    Attributes:
        users: int64 ``[cases]``, the users of the cases, in order.
        items: int32 ``[cases, width]``: the case's targets, then its negatives, then 0 where there are fewer.
        num_targets: int64 ``[cases]``.
        facts: how they were made: kind, negatives, seed, split, dataset fingerprint.
    """

    users: Ints
    items: npt.NDArray[np.int32]
    num_targets: Ints
    facts: dict[str, Any]

    def __len__(self) -> int:
        return len(self.users)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of users and items: the same for two runs means that they were judged on the same candidates."""
        return digest(str(self.items.shape), self.users.tobytes(), self.items.tobytes(), self.num_targets.tobytes())

    @cached_property
    def num_negatives(self) -> Ints:
        """int64 ``[cases]``: how many were drawn, fewer than requested where a user has had nearly everything."""
        counts: Ints = (self.items != 0).sum(axis=1) - self.num_targets
        return counts

    def check(self, cases: Cases) -> None:
        """Refuse cases that these candidates were not made for."""
        remedy = "Make the candidates again, from this dataset and split."
        if not np.array_equal(self.users, cases.users):
            raise PalateError("the candidates were made for other users", remedy)
        targets = _distinct_targets(cases)
        mine = np.sort(_keys_of(self.items, np.arange(self.items.shape[1]) < self.num_targets[:, None]))
        if not np.array_equal(mine, np.sort(targets)):
            raise PalateError("the candidates were made for other targets", remedy)

    def check_dataset(self, dataset: Dataset) -> None:
        """Refuse a dataset that these candidates were not drawn from: its items may have other numbers.

        Raises:
            PalateError: another fingerprint is recorded, or an item has a number that the dataset has not.
        """
        highest = int(self.items.max(initial=0))
        if self.facts.get("dataset", dataset.fingerprint) != dataset.fingerprint or highest > dataset.num_items:
            raise PalateError(
                f"the candidates were drawn from another dataset than {dataset.name}",
                "Make the candidates again, from this dataset and split.",
            )

    def of(self, cases: Cases) -> Candidates:
        """The rows of some of the users that these candidates were drawn for.

        Raises:
            PalateError: nothing was drawn for one of them.
        """
        if np.array_equal(self.users, cases.users):
            return self
        if not np.isin(cases.users, self.users).all():
            raise PalateError(
                "the candidates were made for other users", "Make the candidates again, from this dataset and split."
            )
        order = np.argsort(self.users)
        rows = order[np.searchsorted(self.users, cases.users, sorter=order)]
        return Candidates(self.users[rows], self.items[rows], self.num_targets[rows], self.facts)

    def save(self, path: Path | str) -> None:
        """Write one ``.npz`` file (no pickle inside), whole or not at all."""
        with atomic_file(path) as part, part.open("wb") as file:
            np.savez_compressed(
                file,
                users=self.users,
                items=self.items,
                num_targets=self.num_targets,
                facts=np.frombuffer(json.dumps(self.facts).encode(), np.uint8),
            )

    @classmethod
    def load(cls, path: Path | str) -> Candidates:
        """Read what :meth:`save` wrote; anything else is refused."""
        remedy = "Give a candidates.npz that `palate evaluate --protocol sampled --out` wrote."
        path = Path(path)
        if not path.is_file():
            raise PalateError(f"{path} does not exist", remedy)
        try:
            with np.load(path, allow_pickle=False) as file:
                made = cls(
                    users=file["users"].astype(np.int64),
                    items=file["items"].astype(np.int32),
                    num_targets=file["num_targets"].astype(np.int64),
                    facts=json.loads(file["facts"].tobytes()),
                )
        except Exception as error:  # numpy and zipfile raise many kinds for a file that is no archive of arrays
            raise PalateError(f"{path} holds no candidates ({error})", remedy) from None
        rows = (len(made.users),)
        if made.items.ndim != 2 or (made.items.shape[0],) != rows or made.num_targets.shape != rows:
            raise PalateError(f"{path} holds no candidates (shapes do not agree)", remedy)
        if not isinstance(made.facts, dict):
            raise PalateError(f"{path} holds no candidates (no facts of how they were drawn)", remedy)
        in_order = np.sort(made.items, axis=1)
        if (in_order < 0).any() or ((in_order[:, 1:] == in_order[:, :-1]) & (in_order[:, 1:] > 0)).any():
            raise PalateError(f"{path} holds no candidates (an item twice in a row, or below 0)", remedy)
        return made


def check_kind(kind: str) -> str:
    """The name of a strategy that candidates may be drawn by: no model has a say in what it is measured on.

    Raises:
        PalateError: there is none, or it needs a model.
    """
    if kind not in NEGATIVES or not is_weighted(NEGATIVES[kind]):
        choices = [name for name in NEGATIVES if is_weighted(NEGATIVES[name])]
        raise PalateError(f"--candidates {kind}: no such way to draw them", suggest(kind, choices))
    return kind


def sample_candidates(
    dataset: Dataset,
    split: Literal["valid", "test"],
    *,
    negatives: int = 100,
    kind: str = "uniform",
    seed: int = 0,
) -> Candidates:
    """Draw negatives for every case of a split, never from the user's history or targets, and never one twice.

    Args:
        negatives: How many per case; a user who has seen nearly everything gets fewer.
        kind: ``uniform`` over the catalogue; ``popularity``: in proportion to training interactions, so that negatives
            are as popular as targets are and popularity alone tells them apart no better than chance; or another
            strategy with weights.
    """
    strategy = NEGATIVES[check_kind(kind)]()
    assert isinstance(strategy, WeightedStrategy)
    if negatives < 1:
        raise PalateError(f"--negatives {negatives} leaves nothing to rank against", "Give at least 1.")
    require_targets(dataset, split)
    cases, rng = dataset.cases(split), np.random.default_rng(seed)
    weights = strategy.of_catalogue(dataset.train_counts)
    if not weights.any():
        raise PalateError("the dataset has no training interactions to draw candidates from", "Use uniform candidates.")
    targets = _distinct_targets(cases)
    width = dataset.num_items + 1
    histories = (np.repeat(np.arange(len(cases)), cases.histories.lengths) << 32) | cases.histories.values
    banned = np.unique(np.concatenate([targets, histories]))
    banned = (banned >> 32) * width + (banned & 0xFFFFFFFF)
    draw, drawn = WeightedDraw(weights), np.zeros((len(cases), negatives), np.int32)
    for start in range(0, len(cases), _CHUNK):
        stop = min(start + _CHUNK, len(cases))
        low, high = np.searchsorted(banned, [start * width, stop * width])
        drawn[start:stop] = draw(
            stop - start, banned[low:high] - start * width, negatives, rng, spare=negatives // 4 + 4
        )
    counts = np.bincount(targets >> 32, minlength=len(cases)).astype(np.int64)
    items = np.zeros((len(cases), int(counts.max(initial=0)) + negatives), np.int32)
    items[np.arange(items.shape[1]) < counts[:, None]] = targets & 0xFFFFFFFF
    for extra in np.unique(counts):
        rows = np.flatnonzero(counts == extra)
        items[rows, extra : extra + negatives] = drawn[rows]
    if not drawn[:, 0].all():
        user = dataset.user_ids[int(cases.users[np.argmin(drawn[:, 0])])]
        raise PalateError(
            f"user '{user}' has seen every item that could be a negative", "Use the full protocol for this dataset."
        )
    facts = {"kind": kind, "negatives": negatives, "seed": seed, "split": split, "dataset": dataset.fingerprint}
    return Candidates(cases.users, items, counts, facts)


def _distinct_targets(cases: Cases) -> Ints:
    """Sorted keys ``case << 32 | item`` of the distinct targets."""
    return np.unique((np.repeat(np.arange(len(cases)), cases.targets.lengths) << 32) | cases.targets.values)


def _keys_of(items: npt.NDArray[np.int32], mask: npt.NDArray[np.bool_]) -> Ints:
    rows, columns = np.nonzero(mask)
    return (rows.astype(np.int64) << 32) | items[rows, columns]
