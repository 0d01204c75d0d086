"""Cross-entropy over the whole catalogue."""

from __future__ import annotations

from typing import Literal

import torch

from palate.config import Config
from palate.objectives.base import Batch, Loss, Objective, Scores
from palate.objectives.linear_cross_entropy import linear_cross_entropy


class CrossEntropyConfig(Config):
    """Attributes:
    precision: of the products with the catalogue, see
        :func:`palate.objectives.linear_cross_entropy.linear_cross_entropy`.
    """

    precision: Literal["float32", "bfloat16"] = "float32"


class CrossEntropy(Objective):
    """``-log softmax(s)[target]``, the softmax over every item that was trained on."""

    Config = CrossEntropyConfig
    config: CrossEntropyConfig

    def __call__(self, scores: Scores, batch: Batch) -> Loss:
        classes = scores.items.index_select(0, batch.classes)
        targets = torch.searchsorted(batch.classes, batch.targets)
        bias = None
        if scores.bias is not None:
            places = torch.searchsorted(batch.classes, scores.bias.items).clamp_max(len(batch.classes) - 1)
            known = batch.classes[places] == scores.bias.items
            bias = (scores.bias.rows[known], places[known], scores.bias.values[known])
        dtype = torch.bfloat16 if self.config.precision == "bfloat16" else torch.float32
        return Loss(linear_cross_entropy(scores.queries, classes, targets, batch.weights, bias, dtype))
