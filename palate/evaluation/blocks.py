"""A batch of users ranked over the catalogue, one block of items after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from palate.data.sequences import Sequences, offsets_of
from palate.evaluation.counting import count, count_removed, sorted_targets
from palate.evaluation.ranks import Ints
from palate.recommender import ItemScorer
from palate.topk import best_items

Bools = npt.NDArray[np.bool_]
# Items and scores, best first.
Found = tuple[Tensor, Tensor]


class BatchRanking:
    """Ranks and best items of a batch of users.

    Args:
        targets: of each user, users with more targets first.
        missed: bool ``[targets]``: which cannot be recommended, the last ones of their row; None: all can.
        removed: items of each row that compete with nobody, ascending.
        pool: bool ``[width]``: the only items that are ranked; None: all.
        depth: how many of the best items to keep.
        check: called with every block of scores and its width; returns them as float32.
    """

    def __init__(
        self,
        targets: Sequences,
        missed: Bools | None,
        removed: Sequences,
        pool: Bools | None,
        depth: int,
        check: Callable[[Tensor, int], Tensor],
    ) -> None:
        self._targets, self._removed, self._pool, self._depth, self._check = targets, removed, pool, depth, check
        self._missed = np.zeros(len(targets.values), np.bool_) if missed is None else missed
        self._target_rows = np.repeat(np.arange(len(targets)), targets.lengths)
        self._removed_rows = np.repeat(np.arange(len(removed)), removed.lengths)

    def whole(self, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of whole rows of scores ``[B, width]``, which were checked and are written to: see :meth:`in_blocks`."""
        values = scores[self._cells(self._target_rows, self._targets.values, scores)]
        return self._pass([(0, scores)], values)[:3]

    def in_blocks(self, scorer: ItemScorer, width: int, block: int) -> tuple[Tensor, Tensor, Tensor]:
        """Of scores by blocks of ``block`` items.

        What counts is a target's score in its own block, but the blocks before that are counted against it too. So
        targets are scored beforehand; should a product of another shape have rounded one of them in another way, all
        blocks are counted again.

        Returns:
            How many competitors reach each target, int64 ``[B, most targets]``; the targets' items in that order, best
            first; the best items, int64 ``[B, depth]``.
        """
        values = self._beforehand(scorer, block)
        for _ in range(2):
            *found, seen = self._pass(self._blocks(scorer, width, block), values)
            if torch.equal(seen, values):
                break
            values = seen
        counts, items, best = found
        return counts, items, best

    def _blocks(self, scorer: ItemScorer, width: int, block: int) -> Iterator[tuple[int, Tensor]]:
        block = -(-width // -(-width // block))  # as many blocks, but none much narrower than the others
        for start in range(0, width, block):
            stop = min(start + block, width)
            if self._pool is None or self._pool[start:stop].any():
                yield start, self._check(scorer(slice(start, stop)), stop - start)

    def _beforehand(self, scorer: ItemScorer, block: int) -> Tensor:
        """The scores of the targets, float32 ``[targets]``."""
        values: Tensor | None = None
        different = np.unique(self._targets.values)
        for start in range(0, len(different), block):
            some = different[start : start + block]
            scores = self._check(scorer(torch.from_numpy(some.astype(np.int64))), len(some))
            here = np.flatnonzero((self._targets.values >= some[0]) & (self._targets.values <= some[-1]))
            places = np.searchsorted(some, self._targets.values[here])
            if values is None:
                values = torch.empty(len(self._targets.values), device=scores.device)
            values[torch.from_numpy(here).to(scores.device)] = scores[
                self._cells(self._target_rows[here], places, scores)
            ]
        assert values is not None
        return values

    def _pass(self, blocks: Iterable[tuple[int, Tensor]], values: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Every block once: counts, items, best items, and the scores of the targets as they stand in their blocks."""
        best, items = sorted_targets(values, self._targets, self._missed)
        counts = torch.zeros(best.shape, dtype=torch.int64, device=best.device)
        seen = values.clone()
        lists = torch.zeros(len(best), 0, dtype=torch.int64, device=best.device), best[:, :0]
        for start, scores in blocks:
            stop = start + scores.shape[1]
            targets = np.flatnonzero((self._targets.values >= start) & (self._targets.values < stop))
            cells = self._cells(self._target_rows[targets], self._targets.values[targets] - start, scores)
            seen[torch.from_numpy(targets).to(seen.device)] = scores[cells]
            removed = self._removed_in(start, stop)
            counts += count(self._ranked(scores, start), best, self._targets)
            counts -= count_removed(scores, best, self._targets, removed)
            if self._depth:
                self._mask(scores, start, removed, targets)
                lists = _joined(lists, best_items(scores, self._depth), start, self._depth)
        return counts, items, lists[0], seen

    def _removed_in(self, start: int, stop: int) -> Sequences:
        """What is removed in a block, by its columns."""
        if start == 0 and stop > self._removed.values.max(initial=0):
            return self._removed
        here = (self._removed.values >= start) & (self._removed.values < stop)
        lengths = np.bincount(self._removed_rows[here], minlength=len(self._removed))
        return Sequences(self._removed.values[here] - np.int32(start), offsets_of(lengths))

    def _ranked(self, scores: Tensor, start: int) -> Tensor:
        """The columns of a block that are ranked."""
        if self._pool is None:
            return scores
        columns = np.flatnonzero(self._pool[start : start + scores.shape[1]])
        return scores[:, torch.from_numpy(columns).to(scores.device)]

    def _mask(self, scores: Tensor, start: int, removed: Sequences, targets: Ints) -> None:
        """Set what may not be recommended to ``-inf``, in place."""
        kept = targets[~self._missed[targets]]
        cells = self._cells(self._target_rows[kept], self._targets.values[kept] - start, scores)
        values = scores[cells]
        if self._pool is not None:
            outside = ~self._pool[start : start + scores.shape[1]]
            scores[:, torch.from_numpy(outside).to(scores.device)] = -torch.inf
        rows = np.repeat(np.arange(len(removed)), removed.lengths)
        scores[self._cells(rows, removed.values, scores)] = -torch.inf  # targets too, which come back
        scores[cells] = values
        if start == 0:
            scores[:, 0] = -torch.inf

    @staticmethod
    def _cells(rows: Ints, columns: npt.NDArray[Any], scores: Tensor) -> tuple[Tensor, Tensor]:
        columns = columns.astype(np.int64)
        return torch.from_numpy(rows).to(scores.device), torch.from_numpy(columns).to(scores.device)


def _joined(lists: Found, new: Found, start: int, depth: int) -> Found:
    """The best of what was found before and of a block behind it: items and scores."""
    items, values = new
    items = (items + start).masked_fill(values == -torch.inf, 0)
    if start == 0:
        return items, values
    items, values = torch.cat([lists[0], items], 1), torch.cat([lists[1], values], 1)
    # Of equal scores the earlier column holds the lower item: the rule for items holds for these columns.
    places, values = best_items(values, depth)
    return items.gather(1, places).masked_fill(values == -torch.inf, 0), values
