"""The control without pairs: fine-tuning that goes on with the same items, each judged by itself."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn.functional import softplus

from palate.objectives.preference import Pairs, Preference, PreferenceConfig, row_mean


class PointwiseBCEConfig(PreferenceConfig):
    """``beta`` is the inverse temperature of the sigmoid."""

    beta: float = Field(1.0, gt=0)


class PointwiseBCE(Preference):
    """``-log sigma(beta s+) - mean_j log(1 - sigma(beta s_j))`` (Kang & McAuley, ICDM 2018, equation 6).

    With item pairs of a language model, ``s = logit_yes - logit_no``, it is what ``palate mllm sft --loss options``
    minimises, on the prompts that alignment learns from: what DPO gains over this is due to the pairs and the
    reference, and not to more training.
    """

    Config = PointwiseBCEConfig
    needs_reference: ClassVar[bool] = False
    needs_zero: ClassVar[bool] = True

    def losses(self, pairs: Pairs) -> tuple[Tensor, dict[str, float]]:
        beta = self.config.beta
        rejected = row_mean(softplus(beta * pairs.rejected_gain), pairs.mask)
        return (softplus(-beta * pairs.chosen_gain) + rejected).masked_fill(~pairs.mask.any(1), 0.0), {}
