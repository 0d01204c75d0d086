"""Training on masked items: a share of a sequence is hidden, and the model finds it from both sides."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from palate.objectives import Batch, Loss, Objective
from palate.rankers.packing import Grid, PackedBatch
from palate.rankers.step import with_penalty

if TYPE_CHECKING:
    from palate.rankers.bert4rec import BERT4RecConfig


@dataclass(frozen=True)
class MaskedBatch(PackedBatch):
    """Sequences of which some items are hidden; every item sees its whole sequence.

    Attributes:
        masked: bool ``[T]``; what ``items`` says there is not read.
    """

    masked: Tensor

    @cached_property
    def grid(self) -> Grid:
        return Grid.pack(self.lengths, self.width, self.device, causal=False)

    @classmethod
    def extended(cls, batch: PackedBatch, last: Tensor | None = None) -> MaskedBatch:
        """The sequences with one item more at each end: ``last``, int64 ``[B]``, or else one that is hidden."""
        longer = batch.followed_by(batch.items.new_zeros(len(batch.lengths)) if last is None else last)
        masked = torch.zeros(len(longer.items), dtype=torch.bool, device=batch.device)
        masked[longer.last] = last is None
        return cls(longer.items, longer.lengths, longer.width, batch.device, masked)


class ClozeStep:
    """An objective on the scores of hidden items (Sun et al. 2019, section 3.6); other items are hidden every time.

    Args:
        config: which share of the items is hidden.
    """

    def __init__(self, objective: Objective, config: BERT4RecConfig) -> None:
        self.objective, self.config = objective, config

    def __call__(
        self, model: nn.Module, packed: PackedBatch, batch: Batch, places: npt.NDArray[np.int64], number: int
    ) -> Loss:
        whole = MaskedBatch.extended(packed, last=batch.targets[packed.last])
        masked = hidden_items(whole, self.config, batch.generator)
        scores = model(replace(whole, masked=masked))
        loss = with_penalty(scores, self.objective(scores, replace(batch, targets=whole.items[masked])))
        return loss if batch.share == 1 else Loss(loss.value * batch.share, loss.diagnostics)


def hidden_items(batch: MaskedBatch, config: BERT4RecConfig, generator: torch.Generator | None) -> Tensor:
    """Which items are hidden: bool ``[T]``, at least one in every sequence, the last one where none was drawn."""
    device, lengths = batch.device, torch.from_numpy(batch.lengths).to(batch.device)
    owner = torch.repeat_interleave(lengths)
    masked = torch.rand(len(batch.items), device=device, generator=generator) < config.mask_probability
    last_alone = torch.rand(len(lengths), device=device, generator=generator) < config.last_probability
    masked &= ~last_alone[owner]
    drawn = torch.zeros(len(lengths), dtype=torch.long, device=device).index_add_(0, owner, masked.long())
    masked[batch.last[drawn == 0]] = True
    return masked
