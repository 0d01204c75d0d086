"""Identity preference optimisation: a margin to reach and not to exceed."""

from __future__ import annotations

from torch import Tensor

from palate.objectives.preference import Pairs, Preference, PreferenceConfig, row_mean


def ipo(deltas: Tensor, valid: Tensor, beta: float) -> Tensor:
    """``(delta - 1 / (2 beta))^2``, the mean over a row's valid negatives.

    Azar et al., "A general theoretical paradigm to understand learning from human preferences", AISTATS 2024,
    equation 17 (its tau is beta). The loss does not saturate: a pair won by too much is pulled back.

    Args:
        deltas: preference logits ``[P, N]``; for texts, of log-probabilities averaged over tokens.
        valid: bool ``[P, N]``.

    Returns:
        float ``[P]``.
    """
    return row_mean((deltas - 1 / (2 * beta)).square(), valid)


class IPOConfig(PreferenceConfig):
    """``beta`` sets the margin, ``1 / (2 beta)``."""


class IPO(Preference):
    """A squared distance to the margin ``1 / (2 beta)``, see :func:`ipo`."""

    Config = IPOConfig

    def losses(self, pairs: Pairs) -> tuple[Tensor, dict[str, float]]:
        return ipo(pairs.deltas, pairs.mask, self.config.beta), {}
