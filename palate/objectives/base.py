"""What an objective sees: factored scores, a batch of targets, and nothing else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Scores:
    """Scores of every item for every target position, kept as factors: ``s[t, i] = queries[t] @ items[i]``.

    Attributes:
        queries: float ``[T, d]``, what the model expects next at each position.
        items: float ``[num_items + 1, d]``, one vector an item; row 0 is padding.
    """

    queries: Tensor
    items: Tensor

    def at(self, index: Tensor) -> Tensor:
        """Scores ``[T, C]`` of the items ``index`` (int64 ``[T, C]``, its own items a row, or ``[C]``, shared)."""
        if index.dim() == 1:
            return self.queries @ self.items.index_select(0, index).T
        chosen = self.items.index_select(0, index.reshape(-1)).view(*index.shape, -1)
        return torch.bmm(chosen, self.queries.unsqueeze(2)).squeeze(2)


@dataclass(frozen=True)
class Batch:
    """The targets of one step and what may serve as a negative.

    Attributes:
        targets: int64 ``[T]``, the item that came next at each position.
        classes: int64 ``[n]``, ascending: the items that were trained on; only these are negatives (an item without a
            training interaction is never pushed away).
        counts: float ``[num_items + 1]``, training interactions of each item.
        weights: float ``[T]`` of mean 1, how much each target counts, or None for all alike.
        generator: where random draws come from, on the device of ``targets``.
    """

    targets: Tensor
    classes: Tensor
    counts: Tensor
    weights: Tensor | None = None
    generator: torch.Generator | None = None

    def mean(self, losses: Tensor) -> Tensor:
        """The weighted mean of one loss a target, ``[T]``."""
        return losses.mean() if self.weights is None else (losses * self.weights).mean()


@dataclass(frozen=True)
class Loss:
    """A loss to minimise (scalar, mean over targets) and named numbers for the log."""

    value: Tensor
    diagnostics: dict[str, float] = field(default_factory=dict)


class Objective(ABC):
    """Turns scores and a batch into a loss. Holds settings, no parameters and no state of the run."""

    @abstractmethod
    def __call__(self, scores: Scores, batch: Batch) -> Loss:
        """The loss of one step."""
