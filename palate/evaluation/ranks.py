"""The Ranks: where the targets of each case came in, which is all that an accuracy metric needs to know."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from palate.data.sequences import Sequences, offsets_of
from palate.evaluation.item_facts import ItemFacts

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Ranks:
    """Ranks of the targets of many cases, ragged.

    Attributes:
        values: int64 ``[total]``, 1-based ranks, ascending (and different) within a case. Targets that could not be
            recommended (excluded as seen) have the last ranks, up to ``num_candidates``.
        items: int32 ``[total]``, the target item that each rank belongs to.
        offsets: int64 ``[cases + 1]``; case ``c`` owns ``values[offsets[c]:offsets[c + 1]]``.
        num_candidates: int64 ``[cases]``, how many items were ranked, targets included.
        lists: int32 ``[cases, depth]`` the best items of each case, best first, 0 where there were fewer; or None.
        train_counts: int64 ``[num_items + 1]`` training interactions of each item, for metrics of the lists; or None.
        histories: what each case's user did before, for metrics that compare lists with it; or None.
        item_facts: vectors and groups of items, for metrics of the lists; or None.

    >>> ranks = Ranks.of([[1, 7], [3]], num_candidates=100)
    >>> ranks.num_targets.tolist(), ranks.sum(ranks.values <= 5).tolist()
    ([2, 1], [1.0, 1.0])
    """

    values: Ints
    items: npt.NDArray[np.int32]
    offsets: Ints
    num_candidates: Ints
    lists: npt.NDArray[np.int32] | None = None
    train_counts: Ints | None = None
    histories: Sequences | None = None
    item_facts: ItemFacts | None = None

    @classmethod
    def of(cls, ranks: list[list[int]], num_candidates: int) -> Ranks:
        """Ranks from lists, for tests and small experiments; the items are numbered 1, 2, ..."""
        lengths = np.array([len(row) for row in ranks], np.int64)
        values = np.array([rank for row in ranks for rank in sorted(row)], np.int64)
        items = np.arange(1, len(values) + 1, dtype=np.int32)
        return cls(values, items, offsets_of(lengths), np.full(len(ranks), num_candidates, np.int64))

    def __len__(self) -> int:
        """Number of cases."""
        return len(self.offsets) - 1

    @property
    def num_targets(self) -> Ints:
        """int64 ``[cases]``."""
        return np.diff(self.offsets)

    @property
    def case(self) -> Ints:
        """int64 ``[total]``: the case of each rank."""
        return np.repeat(np.arange(len(self)), self.num_targets)

    @property
    def order(self) -> Ints:
        """int64 ``[total]``: 1 for the best target of its case, 2 for the next, ..."""
        return np.arange(len(self.values)) - np.repeat(self.offsets[:-1], self.num_targets) + 1

    @property
    def best(self) -> Ints:
        """int64 ``[cases]``: the rank of each case's best target."""
        return self.values[self.offsets[:-1]]

    def sum(self, per_rank: npt.ArrayLike) -> Floats:
        """Add up a value per rank over each case: ``[total]`` -> float64 ``[cases]``."""
        weights = np.asarray(per_rank, np.float64)
        return np.bincount(self.case, weights=weights, minlength=len(self)).astype(np.float64, copy=False)

    def take(self, cases: npt.ArrayLike) -> Ranks:
        """The given cases, in the given order."""
        index = np.asarray(cases, np.int64)
        lengths = self.num_targets[index]
        offsets = offsets_of(lengths)
        flat = np.arange(offsets[-1]) + np.repeat(self.offsets[index] - offsets[:-1], lengths)
        lists = None if self.lists is None else self.lists[index]
        return replace(
            self,
            values=self.values[flat],
            items=self.items[flat],
            offsets=offsets,
            num_candidates=self.num_candidates[index],
            lists=lists,
            histories=None if self.histories is None else self.histories.take(index),
        )

    def restrict(self, keep: npt.NDArray[np.bool_]) -> tuple[Ranks, Ints]:
        """Keep only some targets (a slice such as the tail items); ranks stay what they were in the whole list.

        Args:
            keep: bool ``[total]``, one per rank.

        Returns:
            The ranks of the cases that still have a target, and the numbers of those cases.
        """
        lengths = np.bincount(self.case[keep], minlength=len(self)).astype(np.int64)
        restricted = replace(self, values=self.values[keep], items=self.items[keep], offsets=offsets_of(lengths))
        cases = np.flatnonzero(lengths)
        return restricted.take(cases), cases
