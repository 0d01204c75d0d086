"""What a preference objective sees: scores of a chosen item and of rejected ones, and nothing else.

The scores may be log-probabilities or any scores whose normaliser cancels in a difference (a softmax over one
catalogue), so the same objective serves a sequence encoder and a language model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from palate.config import Config
from palate.errors import PalateError


def _alone(values: Tensor) -> Tensor:
    """The gather of a single worker."""
    return values


@dataclass(frozen=True)
class Pairs:
    """One chosen answer a row against its rejected ones, under the policy and under the frozen reference.

    Attributes:
        chosen: float ``[P]``, the policy's (log-)scores of the chosen items.
        rejected: float ``[P, N]``, those of the rejected items. May hold anything, even nan, where ``valid`` is False.
        reference_chosen: float ``[P]``, the reference's, or None.
        reference_rejected: float ``[P, N]``, the reference's, or None.
        valid: bool ``[P, N]``, which rejected items count; None where all do.
        hardness: float ``[P, N]``, one number per pair for the objectives that ask for it (``needs_hardness``).
        generator: where random draws come from, on the device of the scores.
        gather: joins a 1-d tensor over all workers; its length may differ between them.

    Raises:
        PalateError: the shapes do not fit together, or only one half of the reference is given.
    """

    chosen: Tensor
    rejected: Tensor
    reference_chosen: Tensor | None = None
    reference_rejected: Tensor | None = None
    valid: Tensor | None = None
    hardness: Tensor | None = None
    generator: torch.Generator | None = None
    gather: Callable[[Tensor], Tensor] = _alone

    def __post_init__(self) -> None:
        rows, cells = self.chosen.shape, self.rejected.shape
        if len(rows) != 1 or len(cells) != 2 or cells[0] != rows[0]:
            raise PalateError(
                f"a batch of pairs has chosen scores of shape {list(rows)} and rejected ones of {list(cells)}",
                "Give [P] and [P, N].",
            )
        if (self.reference_chosen is None) != (self.reference_rejected is None):
            raise PalateError("a batch of pairs has half a reference", "Give both reference scores, or none.")
        shapes = {"reference_chosen": rows, "reference_rejected": cells, "valid": cells, "hardness": cells}
        for name, shape in shapes.items():
            value: Tensor | None = getattr(self, name)
            if value is not None and value.shape != shape:
                raise PalateError(
                    f"a batch of pairs has '{name}' of shape {list(value.shape)}", f"It must be {list(shape)}."
                )

    @property
    def mask(self) -> Tensor:
        """bool ``[P, N]``: ``valid``, all True where it is None."""
        return torch.ones_like(self.rejected, dtype=torch.bool) if self.valid is None else self.valid

    @property
    def has_reference(self) -> bool:
        return self.reference_chosen is not None

    @property
    def chosen_gain(self) -> Tensor:
        """float ``[P]``: chosen, policy minus reference; 0 in a row without a valid negative."""
        gain = self.chosen if self.reference_chosen is None else self.chosen - self.reference_chosen
        return _wide(gain).masked_fill(~self.mask.any(1), 0.0)

    @property
    def rejected_gain(self) -> Tensor:
        """float ``[P, N]``: rejected, policy minus reference; 0 where not valid."""
        gain = self.rejected if self.reference_rejected is None else self.rejected - self.reference_rejected
        return _wide(gain).masked_fill(~self.mask, 0.0)

    @property
    def deltas(self) -> Tensor:
        """The preference logits, float ``[P, N]``: ``(s+ - ref+) - (s- - ref-)``, at least float32; 0 where not valid.

        >>> pairs = Pairs(torch.tensor([2.0]), torch.tensor([[1.0, -torch.inf]]), valid=torch.tensor([[True, False]]))
        >>> pairs.deltas
        tensor([[1., 0.]])
        """
        return (self.chosen_gain.unsqueeze(1) - self.rejected_gain).masked_fill(~self.mask, 0.0)

    def without_reference(self) -> Pairs:
        """The same pairs, the reference left out."""
        return replace(self, reference_chosen=None, reference_rejected=None)


def _wide(scores: Tensor) -> Tensor:
    """At least float32: a difference of two large half-precision scores would be mostly rounding."""
    return scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores


def row_mean(values: Tensor, valid: Tensor) -> Tensor:
    """The mean ``[P]`` of the valid values of each row of ``[P, N]``; 0 (and no gradient) where a row has none."""
    return values.masked_fill(~valid, 0.0).sum(1) / valid.sum(1).clamp_min(1)


@dataclass(frozen=True)
class PreferenceLoss:
    """Losses to minimise, float ``[P]``, one per row (0 for a row without a valid negative), and numbers for the log.

    The numbers are means over this batch's valid pairs; there are none where no pair is valid.
    """

    losses: Tensor
    diagnostics: dict[str, float] = field(default_factory=dict)


class PreferenceConfig(Config):
    """What every preference has."""

    beta: float = Field(
        0.1,
        gt=0,
        description="Scale of the preference logit: what a difference of scores is multiplied by. 0.1 suits "
        "log-probabilities of texts; read score_scale in the log before changing it.",
    )


class Preference(ABC):
    """Turns pairs into one loss per row. Holds settings, no parameters and no state of the run.

    A preference of one's own names its ``Config`` and writes :meth:`losses`.
    """

    Config: ClassVar[type[PreferenceConfig]] = PreferenceConfig
    needs_reference: ClassVar[bool] = True
    # Whether scores must have a zero of their own, as log-odds have: what goes into a softmax has none.
    needs_zero: ClassVar[bool] = False

    def __init__(self, config: PreferenceConfig | None = None) -> None:
        self.config = config or self.Config()

    @property
    def needs_hardness(self) -> bool:
        """Whether pairs must carry a hardness."""
        return False

    @abstractmethod
    def losses(self, pairs: Pairs) -> tuple[Tensor, dict[str, float]]:
        """float ``[P]`` and numbers of the objective's own; a reference-free objective gets pairs without one."""

    def __call__(self, pairs: Pairs) -> PreferenceLoss:
        """The losses of one step.

        Raises:
            PalateError: the pairs lack the reference or the hardness that the objective needs.
        """
        name = type(self).__name__
        if self.needs_reference and not pairs.has_reference:
            raise PalateError(f"{name} compares with a reference, and the pairs have none", "Give reference scores.")
        if self.needs_hardness and pairs.hardness is None:
            raise PalateError(f"{name} weighs pairs by hardness, and the pairs have none", "Give 'hardness'.")
        if not self.needs_reference:
            pairs = pairs.without_reference()
        losses, own = self.losses(pairs)
        return PreferenceLoss(losses, {**describe(pairs, self.config.beta), **own})


@torch.no_grad()
def describe(pairs: Pairs, beta: float) -> dict[str, float]:
    """The numbers every preference objective logs, over the valid pairs; empty where there is none.

    ``reward_accuracy``: share with a preference logit above 0. ``reward_margin``: mean ``beta * delta``.
    ``chosen_reward``, ``rejected_reward``: mean ``beta * (policy - reference)`` of either side (a reference that is not
    there counts as 0). ``score_scale``: root mean square of the policy's ``s+ - s-``, in the scores' own unit:
    ``beta * score_scale`` far below 1 means that the loss is nearly linear, far above that it is saturated.
    """
    valid, deltas = pairs.mask, pairs.deltas
    margins = pairs.without_reference().deltas
    count = valid.sum().clamp_min(1)
    rows = valid.any(1).sum().clamp_min(1)
    numbers = torch.stack(
        [
            valid.any().to(deltas.dtype),
            (deltas > 0).sum() / count,
            beta * deltas.sum() / count,
            margins.square().sum().div(count).sqrt(),
            beta * pairs.chosen_gain.sum() / rows,
            beta * pairs.rejected_gain.sum() / count,
        ]
    ).tolist()  # one transfer from the device, not six
    names = ("reward_accuracy", "reward_margin", "score_scale", "chosen_reward", "rejected_reward")
    return dict(zip(names, numbers[1:], strict=True)) if numbers[0] else {}


def pair_weights(preference: Preference, pairs: Pairs) -> Tensor:
    """How hard each pair pulls: ``|d loss / d delta|``, float ``[P, N]``, 0 where not valid.

    The scores are taken as they are, detached; the caller's graph, gradients and generator are left alone (an objective
    with noise sees the noise that its next call would draw). Works under ``no_grad``. Where ``gather`` joins workers,
    all of them must call this together.

    >>> from palate.objectives.dpo import DPO, DPOConfig
    >>> pairs = Pairs(torch.zeros(1), torch.zeros(1, 2), torch.zeros(1), torch.zeros(1, 2))
    >>> pair_weights(DPO(DPOConfig(beta=0.4)), pairs)  # each of two: beta * sigma(0) / 2
    tensor([[0.1000, 0.1000]])
    """
    with torch.inference_mode(False), torch.enable_grad():
        # Inference tensors cannot enter a graph; clones made out here can.
        def copy(scores: Tensor | None) -> Tensor | None:
            return None if scores is None else scores.detach().clone()

        generator = None
        if pairs.generator is not None:
            generator = torch.Generator(pairs.generator.device)
            generator.set_state(pairs.generator.get_state())
        # Lowering a rejected score by x raises its delta by x, whatever the objective makes of it.
        shift = torch.zeros_like(_wide(pairs.rejected), requires_grad=True)
        moved = Pairs(
            chosen=pairs.chosen.detach().clone(),
            rejected=_wide(pairs.rejected.detach().clone()) - shift,
            reference_chosen=copy(pairs.reference_chosen),
            reference_rejected=copy(pairs.reference_rejected),
            valid=copy(pairs.valid),
            hardness=copy(pairs.hardness),
            generator=generator,
            gather=pairs.gather,
        )
        (slopes,) = torch.autograd.grad(preference(moved).losses.sum(), shift)
        return slopes.abs().masked_fill(~moved.mask, 0.0)
