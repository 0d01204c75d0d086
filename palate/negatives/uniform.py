"""Any item of the catalogue, each as likely as any other."""

from __future__ import annotations

from torch import Tensor

from palate.negatives.base import WeightedStrategy


class Uniform(WeightedStrategy):
    """``P(i) = 1 / n`` over the ``n`` allowed items."""

    reads = ()

    def weights(self, counts: Tensor, power: float) -> Tensor | None:
        return None
