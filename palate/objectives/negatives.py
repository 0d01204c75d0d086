"""Negatives of a training loss, drawn without the model: by the weights of a strategy, or from the batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from palate.negatives.base import WeightedStrategy
from palate.negatives.in_batch import InBatch
from palate.objectives.base import Batch


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
    weights = strategy.weights(batch.counts.index_select(0, batch.classes).double(), power)
    if weights is None:
        chosen = torch.randint(options, (size,), generator=batch.generator, device=targets.device)
        log_q = torch.full((size,), -float(torch.tensor(options, dtype=torch.float32).log()), device=targets.device)
    else:
        cumulative = weights.cumsum(0)
        draws = torch.rand(size, generator=batch.generator, device=targets.device, dtype=torch.float64)
        chosen = torch.searchsorted(cumulative, draws * cumulative[-1], right=True).clamp_max(options - 1)
        log_q = (weights.log() - cumulative[-1].log()).float().index_select(0, chosen)
    items = batch.classes.index_select(0, chosen)
    if not shared:
        items, log_q = items.view(len(targets), count), log_q.view(len(targets), count)
    return Negatives(items, items != targets.unsqueeze(1), log_q)


def _log_frequency(batch: Batch, items: Tensor) -> Tensor:
    return (batch.counts.index_select(0, items) / batch.counts.sum()).clamp_min(1e-12).log()
