"""Negatives drawn before the model is asked: uniform, by popularity, or from the batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from palate.objectives.base import Batch

Source = Literal["uniform", "popularity", "in-batch"]


@dataclass(frozen=True)
class Negatives:
    """Drawn items.

    Attributes:
        items: int64 ``[T, C]`` (own draws a target) or ``[C]`` (shared by all targets).
        valid: bool ``[T, C]``: False where the draw is the target itself.
        log_q: float, shaped like ``items``: log-probability of the draw, for the logQ correction.
    """

    items: Tensor
    valid: Tensor
    log_q: Tensor


def draw_negatives(batch: Batch, source: Source, count: int, *, shared: bool, power: float = 1.0) -> Negatives:
    """Draw ``count`` negatives with replacement among the trained items (``in-batch``: the batch's own targets).

    Args:
        shared: One set for all targets (cheap, for softmax), or a set of its own for each.
        power: ``popularity`` draws item ``i`` with probability proportional to ``counts[i] ** power``.
    """
    targets = batch.targets
    if source == "in-batch":
        # Targets arrive with the frequency of the items in the log.
        items = targets
        log_q = _log_frequency(batch, items)
        return Negatives(items, items.unsqueeze(0) != targets.unsqueeze(1), log_q)
    size = count if shared else count * len(targets)
    options = len(batch.classes)
    if source == "uniform":
        chosen = torch.randint(options, (size,), generator=batch.generator, device=targets.device)
        log_q = torch.full((size,), -float(torch.tensor(options, dtype=torch.float32).log()), device=targets.device)
    else:
        weights = batch.counts.index_select(0, batch.classes).double().pow(power)
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
