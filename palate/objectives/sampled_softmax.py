"""Softmax over the target and a sample of the catalogue, with the logQ correction."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from palate.config import Config
from palate.negatives import NEGATIVES
from palate.negatives.base import WeightedStrategy, is_weighted, unread_settings
from palate.negatives.in_batch import InBatch
from palate.objectives.base import Batch, Loss, Scores
from palate.objectives.negatives import Negatives, SampledObjective, draw_negatives
from palate.registry import NameIn


class SampledSoftmaxConfig(Config):
    """Attributes:
    negatives: where they come from.
    num_negatives: how many are drawn per step, shared by all its targets (``in-batch`` takes the whole batch).
    log_q: correct for how often an item is drawn, so that the loss estimates the full softmax.
    power: exponent of the popularity.
    """

    negatives: Annotated[str, NameIn(NEGATIVES, lambda one: is_weighted(one) or one is InBatch)] = "uniform"
    num_negatives: int = Field(512, ge=1)
    log_q: bool = True
    power: float = Field(1.0, ge=0)

    def unread(self) -> dict[str, str]:
        strategy = NEGATIVES[self.negatives]()
        whole_batch = {"num_negatives": "negatives that are drawn"} if isinstance(strategy, InBatch) else {}
        return unread_settings(("power",), strategy) | whole_batch


class SampledSoftmax(SampledObjective):
    """``-log(exp(s+) / (exp(s+) + sum_j exp(s_j - log(C q_j))))`` over ``C`` drawn negatives.

    The correction of Bengio & Senécal (2008) and Yi et al. (2019): a negative's score is lowered by the log of its
    expected number of draws; the target, which is no draw, keeps its own.
    """

    Config = SampledSoftmaxConfig
    config: SampledSoftmaxConfig

    def __init__(self, config: SampledSoftmaxConfig | None = None) -> None:
        super().__init__(config)
        strategy = NEGATIVES[self.config.negatives]()
        assert isinstance(strategy, WeightedStrategy | InBatch)
        self.strategy = strategy

    def draw(self, batch: Batch) -> Negatives:
        settings = self.config
        return draw_negatives(batch, self.strategy, settings.num_negatives, shared=True, power=settings.power)

    def num_drawn(self, targets: int) -> int:
        return 0 if isinstance(self.strategy, InBatch) else self.config.num_negatives

    def loss(self, scores: Scores, batch: Batch, drawn: Negatives) -> Loss:
        negative = scores.at(drawn.items)
        if self.config.log_q:
            negative = negative - (drawn.log_q + torch.tensor(float(len(drawn.items))).log().to(drawn.log_q.device))
        negative = negative.masked_fill(~drawn.valid, -torch.inf)
        positive = scores.at(batch.targets.unsqueeze(1))
        losses = torch.logsumexp(torch.cat([positive, negative], dim=1), dim=1) - positive.squeeze(1)
        return Loss(batch.mean(losses))
