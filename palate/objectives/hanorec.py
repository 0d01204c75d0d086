"""HaNoRec: DPO whose beta follows the hardness of each pair and the model's response, and whose policy is perturbed."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from palate.errors import PalateError
from palate.objectives.dpo import dpo
from palate.objectives.preference import Pairs, Preference, PreferenceConfig
from palate.objectives.responsiveness import Responsiveness, responsiveness

MIN_BETA = 1e-6


class HaNoRecConfig(PreferenceConfig):
    """The ``beta`` of DPO, which hardness and responsiveness then scale, and these.

    ``hardness`` is the number that a pair carries (:class:`palate.features.hardness.Hardness`); the caller supplies it.
    ``calibrated`` by default: ``as-written`` hardly differs from 1 on real features. The scale of the reward gaps is
    :func:`palate.objectives.responsiveness.responsiveness`.

    ``logits`` perturbs the policy's scores, here. ``lora`` perturbs adapter weights, which only a language model has:
    its trainer does that (:class:`palate.mllm.alignment.noise.AdapterNoise`), and the scores that come here are noisy
    already. ``sigma`` is to be chosen on validation.
    """

    hardness: Literal["as-written", "calibrated", "shuffled", "one"] = Field(
        "calibrated", description="How hard a pair is to tell apart (hanorec)."
    )
    neighbours: int = Field(10, ge=1, description="Items in the neighbourhood of hardness as-written.")
    spread: float = Field(0.5, ge=0, lt=1, description="How far calibrated hardness goes from 1 in either direction.")
    shuffle_of: Literal["calibrated", "as-written"] = Field(
        "calibrated", description="Which of the two shuffled hardness deals out anew."
    )
    responsiveness: Responsiveness = Field("stable", description="The batch's factor on beta (hanorec).")
    noise: Literal["none", "logits", "lora"] = Field("logits", description="What of the policy is perturbed (hanorec).")
    sigma: float = Field(
        0.05, ge=0, description="Standard deviation of the noise, on the scale of scores or adapter weights (hanorec)."
    )
    consistency: float = Field(
        0.0, ge=0, description="Weight of KL(clean || perturbed), with noise on logits (hanorec)."
    )

    @model_validator(mode="after")
    def _consistency_needs_noise(self) -> Self:
        if self.consistency > 0 and (self.noise != "logits" or self.sigma == 0):
            raise ValueError("consistency compares with perturbed scores: it needs noise 'logits' and a sigma above 0")
        return self

    def unread(self) -> dict[str, str]:
        measured = self.shuffle_of if self.hardness == "shuffled" else self.hardness
        readers = {
            "neighbours": (measured == "as-written", "hardness 'as-written'"),
            "spread": (measured == "calibrated", "hardness 'calibrated'"),
            "shuffle_of": (self.hardness == "shuffled", "hardness 'shuffled'"),
            "sigma": (self.noise != "none", "noise 'logits' or 'lora'"),
        }
        return {name: reader for name, (read, reader) in readers.items() if not read}


class HaNoRec(Preference):
    """``-log sigma(beta_ij * delta_ij)`` with ``beta_ij = max(1e-6, beta * R * h_ij)``, the mean over a row.

    arXiv 2511.18740: ``h`` is the hardness of the pair (HaRS), ``R`` the responsiveness of the model, over one forward
    of all workers and without a gradient, and ``delta`` is that of perturbed policy scores (NoDO): one draw a forward,
    N(0, sigma^2) on every score, the reference clean. With ``hardness one``, ``responsiveness one`` and no noise it is
    DPO. A larger beta_ij is a larger weight of the pair and a tighter leash to the reference, both at once.

    The common diagnostics are of the clean scores and of the configured beta.
    """

    Config = HaNoRecConfig
    config: HaNoRecConfig

    @property
    def needs_hardness(self) -> bool:
        return self.config.hardness != "one"

    def losses(self, pairs: Pairs) -> tuple[Tensor, dict[str, float]]:
        settings, valid = self.config, pairs.mask
        seen = self._perturbed(pairs)
        deltas = seen.deltas
        hardness = torch.ones_like(deltas)
        if settings.hardness != "one" and pairs.hardness is not None:
            hardness = torch.where(valid, pairs.hardness.to(deltas), hardness)
        response = responsiveness(pairs.gather((settings.beta * deltas.detach())[valid]), settings.responsiveness)
        beta = (settings.beta * response * hardness).clamp_min(MIN_BETA)
        losses = dpo(deltas, valid, beta)
        if settings.consistency:
            losses = losses + settings.consistency * divergence(pairs, seen)
        return losses, _facts(response, beta[valid], hardness[valid])

    def _perturbed(self, pairs: Pairs) -> Pairs:
        """The pairs with noise on the policy's scores; the same pairs where there is none."""
        if self.config.noise != "logits" or self.config.sigma == 0:
            return pairs
        if pairs.generator is None:
            raise PalateError("noise needs random numbers, and the pairs have no generator", "Give 'generator'.")
        rows, width = pairs.rejected.shape
        # Drawn in float32 also for half-precision scores: bfloat16 would round a small sigma away.
        noise = torch.randn(rows, width + 1, generator=pairs.generator, device=pairs.chosen.device)
        noise = noise * self.config.sigma
        return replace(pairs, chosen=pairs.chosen + noise[:, 0], rejected=pairs.rejected + noise[:, 1:])


def divergence(clean: Pairs, perturbed: Pairs) -> Tensor:
    """``KL(clean || perturbed)`` of the policy's softmax over each row's chosen and valid rejected items, ``[P]``.

    0 for a row without a valid negative. Both sides carry a gradient.
    """
    p, q = _log_softmax(clean), _log_softmax(perturbed)
    return (p.exp() * (p - q)).sum(1)


def _log_softmax(pairs: Pairs) -> Tensor:
    """float ``[P, N + 1]``, the chosen item first; 0 where not valid, so that the terms there vanish."""
    free = pairs.without_reference()
    scores = torch.cat([free.chosen_gain.unsqueeze(1), free.rejected_gain], dim=1)
    out = torch.cat([torch.zeros_like(pairs.mask[:, :1]), ~pairs.mask], dim=1)
    return scores.masked_fill(out, -torch.inf).log_softmax(1).masked_fill(out, 0.0)


@torch.no_grad()
def _facts(response: Tensor, beta: Tensor, hardness: Tensor) -> dict[str, float]:
    """What the weighting did, over the valid pairs."""
    if not len(beta):
        return {}
    places = torch.tensor([0.05, 0.5, 0.95], device=hardness.device, dtype=hardness.dtype)
    numbers = torch.stack([response, beta.mean(), beta.min(), beta.max(), *torch.quantile(hardness, places)])
    names = ("responsiveness", "beta_mean", "beta_min", "beta_max", "hardness_p05", "hardness_p50", "hardness_p95")
    return dict(zip(names, numbers.tolist(), strict=True))
