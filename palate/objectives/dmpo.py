"""Direct multi-preference optimisation: the chosen item against the mean of the rejected ones."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from palate.objectives.preference import Pairs, Preference, PreferenceConfig, row_mean


def dmpo(deltas: Tensor, valid: Tensor, beta: float) -> Tensor:
    """``-log sigma(reward+ - mean_j reward-_j)``, which is ``-log sigma(beta * mean_j delta_j)``.

    Bai et al., "Aligning large language model with direct multi-preference optimization for recommendation",
    CIKM 2024, its L_DMPO. Every negative of a row pulls alike, however hard it is.

    Args:
        deltas: preference logits ``[P, N]``.
        valid: bool ``[P, N]``.

    Returns:
        float ``[P]``.
    """
    return -functional.logsigmoid(beta * row_mean(deltas, valid)).masked_fill(~valid.any(1), 0.0)


class DMPOConfig(PreferenceConfig):
    """Only ``beta``."""


class DMPO(Preference):
    """DPO against the mean of the rejected rewards, see :func:`dmpo`."""

    Config = DMPOConfig

    def losses(self, pairs: Pairs) -> tuple[Tensor, dict[str, float]]:
        return dmpo(pairs.deltas, pairs.mask, self.config.beta), {}
