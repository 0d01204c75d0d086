"""The optimiser: AdamW, by rows where the ids' gradients are sparse; and its learning rate."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from palate.training.config import TrainerConfig
from palate.training.item_rows import row_tables
from palate.training.row_adamw import RowAdamW


def make_optimiser(model: nn.Module, config: TrainerConfig) -> torch.optim.AdamW:
    """An optimiser of all parameters that are trained; a :class:`RowAdamW` where tables are updated by rows."""
    groups, tables = parameter_groups(model, config), row_tables(model)
    if tables:
        return RowAdamW(groups, tables, lr=config.learning_rate, betas=config.betas)
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=True)


def parameter_groups(model: nn.Module, config: TrainerConfig) -> list[dict[str, Any]]:
    """Weight decay is for matrices: biases, norms and lone vectors are left out, embeddings unless configured."""
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        matrix = parameter.dim() >= 2 and (config.decay_embeddings or id(parameter) not in embeddings)
        (decayed if matrix else others).append(parameter)
    return [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]


def learning_rate(config: TrainerConfig, step: int, progress: float) -> float:
    """The rate of a step after ``progress`` epochs: warm-up by steps, then the schedule over all epochs."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    share = min(1.0, progress / config.epochs)
    factor = {"constant": 1.0, "linear": 1 - share, "cosine": 0.5 * (1 + math.cos(math.pi * share))}[config.schedule]
    return config.learning_rate * factor
