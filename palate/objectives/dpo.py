"""Direct preference optimisation: the chosen item above the rejected one, further than the reference has it."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from palate.objectives.preference import Pairs, Preference, PreferenceConfig, row_mean


def dpo(deltas: Tensor, valid: Tensor, beta: float | Tensor) -> Tensor:
    """``-log sigma(beta * delta)``, the mean over a row's valid negatives.

    Rafailov et al., NeurIPS 2023, equation 7; with several negatives, the mean of their pairwise losses.

    Args:
        deltas: preference logits ``[P, N]``.
        valid: bool ``[P, N]``.
        beta: one for all, or ``[P, N]``, one per pair.

    Returns:
        float ``[P]``.
    """
    return row_mean(-functional.logsigmoid(beta * deltas), valid)


class DPOConfig(PreferenceConfig):
    """Only ``beta``."""


class DPO(Preference):
    """``-log sigma(beta * delta)``, see :func:`dpo`."""

    Config = DPOConfig

    def losses(self, pairs: Pairs) -> tuple[Tensor, dict[str, float]]:
        return dpo(pairs.deltas, pairs.mask, self.config.beta), {}
