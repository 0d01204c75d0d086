"""Generalised binary cross-entropy (Petrov & Macdonald, gSASRec, RecSys 2023)."""

from __future__ import annotations

import torch
from pydantic import Field
from torch.nn import functional

from palate.config import Config
from palate.negatives.uniform import Uniform
from palate.objectives.base import Batch, Loss, Scores
from palate.objectives.negatives import Negatives, SampledObjective, draw_negatives


class GBCEConfig(Config):
    """Attributes:
    num_negatives: drawn uniformly for each target; never more than there are other items.
    calibration: ``t`` of the paper: 0 is plain binary cross-entropy, 1 undoes the overconfidence of sampling fully.
    """

    num_negatives: int = Field(256, ge=1)
    calibration: float = Field(0.75, ge=0, le=1)


class GBCE(SampledObjective):
    """``-(beta log sigma(s+) + sum_j log sigma(-s_j)) / (C + 1)`` with the paper's equation for beta:

    ``alpha = C / (n - 1)``, ``beta = alpha (t (1 - 1 / alpha) + 1 / alpha)``, ``n`` items in all.
    """

    Config = GBCEConfig
    config: GBCEConfig

    def beta(self, num_classes: int) -> float:
        """The exponent of the positive probability.

        >>> GBCE(GBCEConfig(num_negatives=10, calibration=0.0)).beta(101)
        1.0
        >>> GBCE(GBCEConfig(num_negatives=10, calibration=1.0)).beta(101)
        0.1
        """
        alpha = min(1.0, self.config.num_negatives / max(1, num_classes - 1))
        return alpha * (self.config.calibration * (1 - 1 / alpha) + 1 / alpha)

    def draw(self, batch: Batch) -> Negatives:
        count = max(1, min(self.config.num_negatives, len(batch.classes) - 1))
        return draw_negatives(batch, Uniform(), count, shared=False)

    def num_drawn(self, targets: int) -> int:
        return targets * self.config.num_negatives

    def loss(self, scores: Scores, batch: Batch, drawn: Negatives) -> Loss:
        beta = self.beta(len(batch.classes))
        positive = scores.at(batch.targets.unsqueeze(1)).squeeze(1)
        negative = functional.logsigmoid(-scores.at(drawn.items)).masked_fill(~drawn.valid, 0.0).sum(1)
        value = -batch.mean(beta * functional.logsigmoid(positive) + negative) / (drawn.items.shape[1] + 1)
        return Loss(value, {"positive_probability": float(torch.sigmoid(positive.detach()).mean())})
