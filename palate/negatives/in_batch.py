"""The targets of other rows of the batch, which are as popular as targets are."""

from __future__ import annotations

import torch

from palate.negatives.base import NegativeStrategy, RejectedItems, SamplingContext
from palate.negatives.config import NegativesConfig


class InBatch(NegativeStrategy):
    """``P(i) = t_i / T``, ``t_i`` of the batch's ``T`` targets being ``i``; a draw that is not allowed is invalid."""

    source = "batch"
    for_cases = False
    reads = ()

    def draw(self, context: SamplingContext, config: NegativesConfig) -> RejectedItems:
        shape, device = (len(context.targets), config.num_negatives), context.targets.device
        drawn = context.others[torch.randint(len(context.others), shape, generator=context.generator, device=device)]
        return RejectedItems(drawn, context.permits(drawn))
