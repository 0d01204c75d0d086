"""A draw from the model's ``pool_k`` best items (RoDPO's stochastic negatives)."""

from __future__ import annotations

from typing import ClassVar

import torch

from palate.negatives.base import NegativeStrategy, RejectedItems, SamplingContext
from palate.negatives.config import NegativesConfig


class TopK(NegativeStrategy):
    """``P(i) = 1 / K`` over the ``K`` best-scored items; with a temperature ``P(i) = softmax(s_i / temperature)``.

    Several negatives of a row are all different. A pool of ``all`` items without a temperature is :class:`Uniform`.
    """

    source = "scores"
    reads: ClassVar[tuple[str, ...]] = ("pool_k", "temperature", "precision")

    def draw(self, context: SamplingContext, config: NegativesConfig) -> RejectedItems:
        if config.pool_k == "all" and not config.temperature:
            return RejectedItems(*context.draw(config.num_negatives))
        width = context.forbidden.width
        values, pool = context.best(width if config.pool_k == "all" else min(config.pool_k, width))
        # The largest keys of a row: a uniform draw, or with Gumbel noise a draw by softmax, without replacement.
        keys = torch.rand(values.shape, generator=context.generator, device=values.device)
        if config.temperature:
            keys = values / config.temperature - (-keys.clamp(1e-12, 1 - 1e-7).log()).log()
        keys = keys.masked_fill(values == -torch.inf, -torch.inf)
        chosen = torch.topk(keys, config.num_negatives, dim=1)
        return RejectedItems(pool.gather(1, chosen.indices), chosen.values > -torch.inf, pool, values > -torch.inf)
