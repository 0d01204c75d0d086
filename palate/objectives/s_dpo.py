"""Softmax DPO: the chosen item against all rejected ones at once; the hardest pulls most."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from palate.objectives.preference import Pairs, Preference, PreferenceConfig


def s_dpo(deltas: Tensor, valid: Tensor, beta: float) -> Tensor:
    """``-log sigma(-log sum_j exp(-beta * delta_j))`` over a row's valid negatives.

    Chen et al., "On softmax direct preference optimization for recommendation", NeurIPS 2024, its L_S-DPO. It equals
    the cross-entropy of the chosen item among itself and the rejected ones, each with the reward
    ``beta * (policy - reference)``. Where all deltas are 0 the slopes of a row add up to ``beta * N / (N + 1)``, so
    beta is to be tuned anew for another number of negatives.

    Args:
        deltas: preference logits ``[P, N]``.
        valid: bool ``[P, N]``.

    Returns:
        float ``[P]``.
    """
    some = valid.any(1)
    # A row of nothing but -inf has no gradient but nan: let it be all zeros, and leave it out afterwards.
    shown = valid | ~some.unsqueeze(1)
    hardest = torch.logsumexp((-beta * deltas).masked_fill(~shown, -torch.inf), dim=1)
    return -functional.logsigmoid(-hardest).masked_fill(~some, 0.0)


class SDPOConfig(PreferenceConfig):
    """Only ``beta``."""


class SDPO(Preference):
    """DPO with several negatives in one softmax, see :func:`s_dpo`."""

    Config = SDPOConfig

    def losses(self, pairs: Pairs) -> tuple[Tensor, dict[str, float]]:
        return s_dpo(pairs.deltas, pairs.mask, self.config.beta), {}
