"""The control without a reference: a softmax over the chosen item and the same rejected ones as S-DPO."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from palate.objectives.preference import Pairs, Preference, PreferenceConfig
from palate.objectives.s_dpo import s_dpo


class PoolSoftmaxConfig(PreferenceConfig):
    """``beta`` is the inverse temperature of the softmax."""

    beta: float = Field(1.0, gt=0)


class PoolSoftmax(Preference):
    """``-log softmax(beta * s)`` of the chosen item among itself and the row's valid negatives.

    S-DPO with a reference that scores everything alike: ``-log(exp(s+) / (exp(s+) + sum_j exp(s_j)))`` is
    ``log(1 + sum_j exp(-(s+ - s_j)))``. No logQ correction: the pool is taken as it was drawn.
    """

    Config = PoolSoftmaxConfig
    needs_reference: ClassVar[bool] = False

    def losses(self, pairs: Pairs) -> tuple[Tensor, dict[str, float]]:
        return s_dpo(pairs.deltas, pairs.mask, self.config.beta), {}
