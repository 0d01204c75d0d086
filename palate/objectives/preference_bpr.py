"""The control without a reference: Bayesian personalised ranking on the same pairs as DPO."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from palate.objectives.dpo import dpo
from palate.objectives.preference import Pairs, Preference, PreferenceConfig


class PairwiseBPRConfig(PreferenceConfig):
    """``beta`` is 1 in the paper."""

    beta: float = Field(1.0, gt=0)


class PairwiseBPR(Preference):
    """``-log sigma(beta * (s+ - s-))``, the mean over a row's valid negatives (Rendle et al., UAI 2009).

    DPO with a reference that scores everything alike: what is left of a gain of DPO over this is due to the reference.
    """

    Config = PairwiseBPRConfig
    needs_reference: ClassVar[bool] = False

    def losses(self, pairs: Pairs) -> tuple[Tensor, dict[str, float]]:
        return dpo(pairs.deltas, pairs.mask, self.config.beta), {}
