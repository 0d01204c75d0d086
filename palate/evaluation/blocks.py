"""A batch of users ranked over the catalogue, one block of items after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from palate.data.sequences import Sequences
from palate.evaluation.counting import count, count_removed, sorted_targets
from palate.evaluation.ranks import Ints
from palate.recommender import ItemScorer, ItemShard
from palate.topk import best_items, merged

Bools = npt.NDArray[np.bool_]


class BatchRanking:
    """Ranks and best items of a batch of users.

    Args:
        targets: of each user, users with more targets first.
        missed: bool ``[targets]``: which cannot be recommended, the last ones of their row; None: all can.
        removed: items of each row that compete with nobody, ascending.
        pool: int64, ascending: the only items that are ranked, targets and ``removed`` among them; None: all.
        depth: how many of the best items to keep.
        check: called with every block of scores and its width; returns them as float32.
        shard: what this process scores; all processes of the shard rank the same batch together, each counts among its
            own items, and all have the result.
    """

    def __init__(
        self,
        targets: Sequences,
        missed: Bools | None,
        removed: Sequences,
        pool: Ints | None,
        depth: int,
        check: Callable[[Tensor, int], Tensor],
        shard: ItemShard | None = None,
    ) -> None:
        self._targets, self._depth, self._check = targets, depth, check
        self._missed = np.zeros(len(targets.values), np.bool_) if missed is None else missed
        # Which targets are scored here.
        self._own = np.ones(len(targets.values), np.bool_)
        self._shard = ItemShard(torch.empty(0, dtype=torch.long)) if shard is None else shard
        if shard is not None:
            items = shard.items.numpy()
            pool = items if pool is None else pool[np.isin(pool, items, assume_unique=True)]
            self._own = np.isin(targets.values, pool)
            removed = _kept(removed, np.isin(removed.values, pool))
        self._pool = None if pool is None else torch.from_numpy(pool)
        # From here on a column is a place in the pool; without one, columns are items.
        self._columns, columns = targets.values, removed.values
        if pool is not None:
            self._columns, columns = (np.searchsorted(pool, one).astype(np.int32) for one in (self._columns, columns))
            self._columns[~self._own] = -1
        self._removed = Sequences(columns, removed.offsets)
        self._rows = np.repeat(np.arange(len(targets)), targets.lengths)

    def whole(self, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of whole rows of scores ``[B, width]``, which were checked and are written to: see :meth:`in_blocks`."""
        if self._pool is not None:
            scores = scores[:, self._pool.to(scores.device)]
        values = scores[_cells(self._rows, self._columns, scores)]
        counts, items, (best, _), _ = self._pass([(0, scores)], values)
        return counts, items, best

    def in_blocks(self, scorer: ItemScorer, width: int, block: int) -> tuple[Tensor, Tensor, Tensor]:
        """Of scores by blocks of ``block`` items.

        What counts is a target's score in its own block, but the blocks before that are counted against it too. So
        targets are scored beforehand; should a product of another shape have rounded one of them in another way, all
        blocks are counted again. With a shard all processes agree on the targets' scores before they count.

        Returns:
            How many competitors reach each target, int64 ``[B, most targets]``; the targets' items in that order, best
            first; the best items, int64 ``[B, depth]``.
        """
        values = self._of_all(self._beforehand(scorer, block))
        for _ in range(2):
            counts, items, best, seen = self._pass(self._blocks(scorer, width, block), values)
            seen = self._of_all(seen)
            if torch.equal(seen, values):
                break
            values = seen
        lists, _ = self._shard.best(*best, self._depth) if self._depth else best
        return self._shard.total(counts), items, lists

    def _of_all(self, values: Tensor) -> Tensor:
        """The scores of all targets, from each process those of its own."""
        own = torch.from_numpy(self._own).to(values.device)
        return self._shard.total(values.masked_fill(~own, 0.0))

    def _blocks(self, scorer: ItemScorer, width: int, block: int) -> Iterator[tuple[int, Tensor]]:
        """The first column of each block, and its scores."""
        width = width if self._pool is None else len(self._pool)
        if not width:  # a shard without items
            return
        block = -(-width // -(-width // block))  # as many blocks, but none much narrower than the others
        for start in range(0, width, block):
            stop = min(start + block, width)
            items = slice(start, stop) if self._pool is None else self._pool[start:stop]
            yield start, self._check(scorer(items), stop - start)

    def _beforehand(self, scorer: ItemScorer, block: int) -> Tensor:
        """The scores of the own targets, float32 ``[targets]``."""
        values = torch.zeros(len(self._targets.values))
        different = np.unique(self._targets.values[self._own])
        for start in range(0, len(different), block):
            some = different[start : start + block]
            scores = self._check(scorer(torch.from_numpy(some.astype(np.int64))), len(some))
            here = np.flatnonzero(self._own & (self._targets.values >= some[0]) & (self._targets.values <= some[-1]))
            places = np.searchsorted(some, self._targets.values[here])
            values = values.to(scores.device)
            values[torch.from_numpy(here).to(scores.device)] = scores[_cells(self._rows[here], places, scores)]
        return values

    def _pass(
        self, blocks: Iterable[tuple[int, Tensor]], values: Tensor
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor], Tensor]:
        """Every block once: counts, items, best items with their scores, and the scores of the targets as they stand in
        their blocks."""
        best, items = sorted_targets(values, self._targets, self._missed)
        counts = torch.zeros(best.shape, dtype=torch.int64, device=best.device)
        seen = values.clone()
        found = torch.zeros(len(best), self._depth, dtype=torch.int64), torch.full((len(best), self._depth), -torch.inf)
        for start, scores in blocks:
            stop = start + scores.shape[1]
            targets = np.flatnonzero((self._columns >= start) & (self._columns < stop))
            cells = _cells(self._rows[targets], self._columns[targets] - start, scores)
            seen[torch.from_numpy(targets).to(seen.device)] = scores[cells]
            removed = self._removed_in(start, stop)
            counts += count(scores, best, self._targets)
            counts -= count_removed(scores, best, self._targets, removed)
            if self._depth:
                self._mask(scores, start, removed, targets)
                columns, points = best_items(scores, self._depth)
                here = columns + start, points
                found = here if start == 0 else merged([found, here], self._depth)
        columns, points = found
        if self._pool is not None and len(self._pool):
            columns = self._pool.to(columns.device)[columns]
        return counts, items, (columns.masked_fill(points == -torch.inf, 0), points), seen

    def _removed_in(self, start: int, stop: int) -> Sequences:
        """What is removed in a block, counted from its first column."""
        if start == 0 and stop > self._removed.values.max(initial=0):
            return self._removed
        here = _kept(self._removed, (self._removed.values >= start) & (self._removed.values < stop))
        return Sequences(here.values - np.int32(start), here.offsets)

    def _mask(self, scores: Tensor, start: int, removed: Sequences, targets: Ints) -> None:
        """Set what may not be recommended to ``-inf``, in place."""
        kept = targets[~self._missed[targets]]
        cells = _cells(self._rows[kept], self._columns[kept] - start, scores)
        values = scores[cells]
        rows = np.repeat(np.arange(len(removed)), removed.lengths)
        scores[_cells(rows, removed.values, scores)] = -torch.inf  # targets too, which come back
        scores[cells] = values
        if start == 0 and self._pool is None:
            scores[:, 0] = -torch.inf


def _cells(rows: Ints, columns: npt.NDArray[Any], scores: Tensor) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(rows).to(scores.device), torch.from_numpy(columns.astype(np.int64)).to(scores.device)


def _kept(rows: Sequences, keep: Bools) -> Sequences:
    """The values that are kept, in their rows."""
    before = np.concatenate([[0], np.cumsum(keep)])
    return Sequences(rows.values[keep], before[rows.offsets])
