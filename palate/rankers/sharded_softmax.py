"""Cross-entropy over a catalogue whose table is sharded: every worker normalises over its own items."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from palate.objectives import Batch, Loss
from palate.objectives.linear_log_sum_exp import linear_log_sum_exp
from palate.rankers.packing import PackedBatch
from palate.rankers.sharded_ids import exchanged, sharded_ids
from palate.rankers.step import with_penalty

if TYPE_CHECKING:
    from palate.rankers.sequential import SequentialRanker

# Items whose vectors and gradients are in memory at a time.
_BLOCK_ITEMS = 16_384


class ShardedSoftmaxStep:
    """``log sum_w exp(z[w]) - s[target]``, with ``z[w]`` the log-sum-exp of the scores of worker ``w``'s items.

    The queries of all workers go to all of them, and one number for each query comes back: the step exchanges what it
    reads, though every worker scores all of its items.

    Args:
        ranker: whose table of ids is sharded, and whose scores have no bias.
    """

    def __init__(self, ranker: SequentialRanker) -> None:
        ids = sharded_ids(ranker)
        assert ids is not None
        self.ranker, self.ids = ranker, ids

    def __call__(
        self, model: nn.Module, packed: PackedBatch, batch: Batch, places: npt.NDArray[np.int64], number: int
    ) -> Loss:
        scores = model(packed, index=torch.unique(torch.cat([packed.items, batch.targets])))
        losses = self._normalisers(scores.queries, batch.classes) - scores.at(batch.targets.unsqueeze(1)).squeeze(1)
        loss = with_penalty(scores, Loss(batch.mean(losses)))
        return Loss(loss.value * batch.share, loss.diagnostics)

    def _normalisers(self, queries: Tensor, classes: Tensor) -> Tensor:
        """``[T]``, the log-sum-exp of each query's scores of all classes."""
        share, count = self.ids.share, len(queries)
        mine = classes[classes % share.count == share.index]
        own = [count] * share.count
        others = exchanged(torch.tensor(own, device=queries.device), [1] * share.count, [1] * share.count).tolist()
        everyone = exchanged(queries.repeat(share.count, 1), own, others)
        blocks = torch.split(mine, _BLOCK_ITEMS)
        found = [checkpoint(_Normaliser(self, block), everyone, use_reentrant=False) for block in blocks]
        parts = found[0] if len(found) == 1 else torch.logsumexp(torch.stack(found), dim=0)
        return torch.logsumexp(exchanged(parts, others, own).view(share.count, count), dim=0)


class _Normaliser:
    """``[T]``, the log-sum-exp of queries ``[T, d]`` over one block of items.

    The vectors of the block are made again for the gradients, so that only one block's are in memory.
    """

    def __init__(self, step: ShardedSoftmaxStep, block: Tensor) -> None:
        self.step, self.block = step, block
        self.known: Tensor | None = None

    def __call__(self, queries: Tensor) -> Tensor:
        ranker = self.step.ranker
        vectors = ranker.items.rows(self.block, ids=self.step.ids.block(self.block))
        found = linear_log_sum_exp(queries, ranker._scores(queries[:0], vectors).items, self.known)
        self.known = found.detach()
        return found
