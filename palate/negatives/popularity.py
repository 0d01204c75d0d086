"""In proportion to how often items were taken: negatives are as popular as positives are."""

from __future__ import annotations

from torch import Tensor

from palate.negatives.base import WeightedStrategy


class PopularityNegatives(WeightedStrategy):
    """``P(i) = c_i^power / sum_j c_j^power``, ``c`` the training interactions."""

    def weights(self, counts: Tensor, power: float) -> Tensor | None:
        return counts.pow(power)
