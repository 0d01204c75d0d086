"""Scores of a sequence ranker for its shard of the items: the histories are encoded together, the items scored apart.

With ``W`` workers each one encodes every ``W``-th history and sends the query to the others, so that a batch is encoded
once; then each multiplies all queries with the vectors of its own items. What comes out of the scores, counts and lists
of ``k`` items, is joined by :class:`WorkersShard`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from palate.data.sequences import Sequences
from palate.objectives.base import Scores
from palate.rankers.block_scores import BlockScorer
from palate.rankers.sharded_ids import ShardedIds, sharded_ids
from palate.recommender import ItemShard


@dataclass(frozen=True)
class WorkersShard(ItemShard):
    """The items whose ids a training worker keeps, as one of those that ``torch.distributed`` joins."""

    ids: ShardedIds = field(kw_only=True)

    @classmethod
    def of(cls, ids: ShardedIds) -> Self:
        own = ids.share.rows(ids.num_rows)
        items = torch.arange(own.start or own.step, own.stop, own.step)  # row 0 is padding
        return cls(items, ids.share.index, ids.share.count, ids=ids)

    def each(self, values: Tensor) -> list[Tensor]:
        if self.count == 1:
            return [values]
        mine = values.to(self.ids.own.weight.device).contiguous()
        found = [torch.empty_like(mine) for _ in range(self.count)]
        dist.all_gather(found, mine)
        return [one.to(values.device) for one in found]

    def total(self, values: Tensor) -> Tensor:
        if self.count == 1:
            return values
        mine = values.to(self.ids.own.weight.device, copy=True).contiguous()
        dist.all_reduce(mine)
        return mine.to(values.device)


class ShardScorer(BlockScorer):
    """An :data:`palate.recommender.ItemScorer` of the items of the model's shard; all workers make it together.

    Args:
        memory: bytes that the vectors of all of these items may take; where they would take more, those of each block
            are made when it is scored.
    """

    def _makes_vectors(self, memory: int) -> bool:
        model, shard = self._model, self._shard
        if model._table is None and 4 * len(shard.items) * model.items.out_dim <= memory:
            model._table = self._read(shard.items.to(model.device))
        return True

    @property
    def _shard(self) -> ItemShard:
        assert self._model.shard is not None
        return self._model.shard

    @property
    def _among(self) -> range:
        items = self._shard.items
        return range(int(items[0]), int(items[-1]) + 1) if len(items) else range(0)

    def _histories_at_once(self) -> int:
        return super()._histories_at_once() * self._shard.count

    def _encoded(self, histories: Sequences) -> Scores:
        model, shard = self._model, self._shard
        mine = histories.take(np.arange(shard.index, len(histories), shard.count))
        found = model._own_scores(mine, by_rows=True)
        missing = -(-len(histories) // shard.count) - len(mine)
        parts = shard.each(torch.nn.functional.pad(found.queries, (0, 0, 0, missing)))
        queries = torch.stack(parts, dim=1).flatten(0, 1)[: len(histories)]
        return Scores(queries, found.items, model._repeats_of(model._packed(histories)))

    def _rows(self, index: Tensor) -> Tensor:
        model, shard = self._model, self._shard
        if model._table is not None:
            return model._table[torch.searchsorted(shard.items.to(index.device), index)]
        ids = sharded_ids(model)
        assert ids is not None
        return model.items.rows(index, ids=ids.own_rows(index))
