"""Negatives of a training loss, drawn without the model: by the weights of a strategy, or from the batch."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from palate.negatives.base import WeightedStrategy
from palate.negatives.in_batch import InBatch
from palate.objectives.base import Batch, Loss, Objective, Scores


@dataclass(frozen=True)
class Negatives:
    """Drawn items.

    Attributes:
        items: int64 ``[T, C]`` (own draws for each target) or ``[C]`` (shared by all targets).
        valid: bool ``[T, C]``: False where the draw is the target itself.
        log_q: float, shaped like ``items``: log-probability of the draw, for the logQ correction.
    """

    items: Tensor
    valid: Tensor
    log_q: Tensor


class SampledObjective(Objective):
    """An objective that looks at the scores of the targets and of drawn items, and at no others.

    The draw comes first and needs no scores, so that a training step can make the vectors of these items only.
    """

    @abstractmethod
    def draw(self, batch: Batch) -> Negatives:
        """The negatives of one step."""

    @abstractmethod
    def num_drawn(self, targets: int) -> int:
        """How many items :meth:`draw` draws for this many targets, beside the targets themselves."""

    @abstractmethod
    def loss(self, scores: Scores, batch: Batch, drawn: Negatives) -> Loss:
        """The loss of one step with these negatives."""

    def __call__(self, scores: Scores, batch: Batch) -> Loss:
        return self.loss(scores, batch, self.draw(batch))


def draw_negatives(
    batch: Batch, strategy: WeightedStrategy | InBatch, count: int, *, shared: bool, power: float = 1.0
) -> Negatives:
    """Draw ``count`` negatives with replacement among the trained items (``InBatch``: the targets of the
    whole batch, those of the other workers included).

    Args:
        shared: One set for all targets (cheap, for softmax), or a set of its own for each.
        power: Of ``popularity``.
    """
    targets = batch.targets
    if isinstance(strategy, InBatch):
        # Targets arrive with the frequency of the items in the log.
        items = batch.step_targets()
        log_q = _log_frequency(batch, items)
        return Negatives(items, items.unsqueeze(0) != targets.unsqueeze(1), log_q)
    size = count if shared else count * len(targets)
    options = len(batch.classes)
    weights = batch.once(
        (type(strategy), power),
        lambda: strategy.weights(batch.counts.index_select(0, batch.classes).double(), power),
    )
    if weights is None:
        chosen = torch.randint(options, (size,), generator=batch.generator, device=targets.device)
        log_q = torch.full((size,), -float(torch.tensor(options, dtype=torch.float32).log()), device=targets.device)
    else:
        cumulative = batch.once((type(strategy), power, "cumulative"), lambda: weights.cumsum(0))
        assert cumulative is not None
        draws = torch.rand(size, generator=batch.generator, device=targets.device, dtype=torch.float64)
        chosen = torch.searchsorted(cumulative, draws * cumulative[-1], right=True).clamp_max(options - 1)
        log_q = (weights.index_select(0, chosen).log() - cumulative[-1].log()).float()
    items = batch.classes.index_select(0, chosen)
    if not shared:
        items, log_q = items.view(len(targets), count), log_q.view(len(targets), count)
    return Negatives(items, items != targets.unsqueeze(1), log_q)


def _log_frequency(batch: Batch, items: Tensor) -> Tensor:
    total = batch.once(("total",), batch.counts.sum)
    assert total is not None
    return (batch.counts.index_select(0, items) / total).clamp_min(1e-12).log()
