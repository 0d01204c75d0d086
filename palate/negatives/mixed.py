"""From the model's best items with probability ``mix``, else from the whole catalogue."""

from __future__ import annotations

import torch

from palate.negatives.base import RejectedItems, SamplingContext
from palate.negatives.config import NegativesConfig
from palate.negatives.top_k import TopK


class Mixed(TopK):
    """``P(i) = mix P_top-k(i) + (1 - mix) / n`` over the ``n`` allowed items."""

    for_cases = False
    reads = (*TopK.reads, "mix")

    def draw(self, context: SamplingContext, config: NegativesConfig) -> RejectedItems:
        pooled = super().draw(context, config)
        if pooled.pool is None:  # the pool is the whole catalogue
            return pooled
        blind, valid = context.draw(config.num_negatives)
        dice = torch.rand(blind.shape, generator=context.generator, device=blind.device) < config.mix
        classes = torch.where(dice, pooled.classes, blind)
        return RejectedItems(classes, torch.where(dice, pooled.valid, valid), pooled.pool, pooled.pool_valid)
