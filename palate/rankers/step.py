"""One training step: from a batch to a loss. What differs between training and alignment is this alone."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from palate.objectives import Batch, Loss, Objective, Scores
from palate.objectives.negatives import SampledObjective
from palate.rankers.packing import PackedBatch


class TrainingStep(Protocol):
    """Makes the loss of one batch; the trainer does the rest."""

    def __call__(
        self, model: nn.Module, packed: PackedBatch, batch: Batch, places: npt.NDArray[np.int64], number: int
    ) -> Loss | None:
        """The loss to minimise, or None where there is nothing to learn from (a lone worker only).

        Of several workers, each gives a loss whose mean over them is that of the whole batch: see ``batch.share``.

        Args:
            model: maps a packed batch to :class:`Scores`; in training mode, and left in it.
            packed: the inputs, ``T`` tokens.
            batch: the target of each token.
            places: int64 ``[T]``, the place of each input among the values of all training sequences.
            number: steps since the last validation.
        """


class ObjectiveStep:
    """An objective on the scores of every position, and what the encoder itself adds to be minimised.

    Args:
        rows: make the vectors of the inputs, targets and negatives only (a :class:`SampledObjective`).
    """

    def __init__(self, objective: Objective, rows: bool = False) -> None:
        self.objective, self.rows = objective, rows

    def __call__(
        self, model: nn.Module, packed: PackedBatch, batch: Batch, places: npt.NDArray[np.int64], number: int
    ) -> Loss:
        if self.rows:
            assert isinstance(self.objective, SampledObjective)
            drawn = self.objective.draw(batch)
            index = torch.unique(torch.cat([packed.items, batch.targets, drawn.items.flatten()]))
            scores = model(packed, index=index)
            loss = with_penalty(scores, self.objective.loss(scores, batch, drawn))
        else:
            loss = self.loss(model(packed), batch)
        return loss if batch.share == 1 else Loss(loss.value * batch.share, loss.diagnostics)

    def loss(self, scores: Scores, batch: Batch) -> Loss:
        """The loss of scores that were made already."""
        return with_penalty(scores, self.objective(scores, batch))


def with_penalty(scores: Scores, made: Loss) -> Loss:
    """A loss with what the encoder wants minimised beside it, and its facts."""
    value = made.value if scores.penalty is None else made.value + scores.penalty
    return Loss(value, {**scores.facts, **made.diagnostics})
