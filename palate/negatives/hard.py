"""The model's own best items that are no answer."""

from __future__ import annotations

import numpy as np
import torch

from palate.negatives.base import Items, NegativeStrategy, RejectedItems, SamplingContext
from palate.negatives.config import NegativesConfig


class Hard(NegativeStrategy):
    """The ``N`` items of highest score ``s_i`` among those that are allowed."""

    source = "scores"
    takes_whole_pool = True
    reads = ("precision",)

    def draw(self, context: SamplingContext, config: NegativesConfig) -> RejectedItems:
        values, pool = context.best(config.num_negatives)
        valid = values > -torch.inf
        return RejectedItems(pool, valid, pool, valid)

    def pick(self, candidates: Items, count: int, rng: np.random.Generator) -> Items:
        return candidates[:count]
