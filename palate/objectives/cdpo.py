"""Conservative DPO: preferences that are wrong with a known probability."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from palate.objectives.preference import Pairs, Preference, PreferenceConfig, row_mean


def cdpo(deltas: Tensor, valid: Tensor, beta: float, label_smoothing: float) -> Tensor:
    """``-(1 - e) log sigma(beta * delta) - e log sigma(-beta * delta)``, the mean over a row's valid negatives.

    Mitchell, "A note on DPO with noisy preferences" (2023), its conservative loss. Minimal at a finite margin,
    ``beta * delta = log((1 - e) / e)``, so a pair that is won is left alone, and one won too far is pulled back.

    Args:
        deltas: preference logits ``[P, N]``.
        valid: bool ``[P, N]``.
        label_smoothing: ``e``, the probability that a pair is the wrong way round.

    Returns:
        float ``[P]``.
    """
    right, wrong = functional.logsigmoid(beta * deltas), functional.logsigmoid(-beta * deltas)
    return row_mean(-(1 - label_smoothing) * right - label_smoothing * wrong, valid)


class CDPOConfig(PreferenceConfig):
    """Attributes:
    label_smoothing: the probability that a pair is the wrong way round, such as the share of false negatives.
    """

    label_smoothing: float = Field(0.1, ge=0, lt=0.5)


class CDPO(Preference):
    """DPO with label smoothing, see :func:`cdpo`."""

    Config = CDPOConfig
    config: CDPOConfig

    def losses(self, pairs: Pairs) -> tuple[Tensor, dict[str, float]]:
        return cdpo(pairs.deltas, pairs.mask, self.config.beta, self.config.label_smoothing), {}
