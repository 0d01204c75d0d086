"""SimPO: DPO without a reference, with a margin to clear."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from palate.objectives.preference import Pairs, Preference, PreferenceConfig, row_mean


def simpo(margins: Tensor, valid: Tensor, beta: float, gamma: float) -> Tensor:
    """``-log sigma(beta * (s+ - s-) - gamma)``, the mean over a row's valid negatives.

    Meng et al., "SimPO: simple preference optimization with a reference-free reward", NeurIPS 2024, equation 6.
    There a score is the log-probability of a text divided by its length: scores must come in that form already.

    Args:
        margins: ``s+ - s-``, float ``[P, N]``.
        valid: bool ``[P, N]``.
        gamma: the margin of rewards to clear.

    Returns:
        float ``[P]``.
    """
    return row_mean(-functional.logsigmoid(beta * margins - gamma), valid)


class SimPOConfig(PreferenceConfig):
    """Attributes:
    gamma: the margin of rewards to clear.
    """

    beta: float = Field(2.0, gt=0)
    gamma: float = Field(1.0, ge=0)


class SimPO(Preference):
    """Reference-free, with a margin, see :func:`simpo`."""

    Config = SimPOConfig
    config: SimPOConfig
    needs_reference: ClassVar[bool] = False

    def losses(self, pairs: Pairs) -> tuple[Tensor, dict[str, float]]:
        return simpo(pairs.deltas, pairs.mask, self.config.beta, self.config.gamma), {}
