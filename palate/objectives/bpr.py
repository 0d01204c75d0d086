"""Bayesian personalised ranking (Rendle et al., UAI 2009)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch.nn import functional

from palate.config import Config
from palate.negatives import NEGATIVES
from palate.negatives.base import WeightedStrategy, is_weighted, unread_settings
from palate.objectives.base import Batch, Loss, Scores
from palate.objectives.negatives import Negatives, SampledObjective, draw_negatives
from palate.registry import NameIn


class BPRConfig(Config):
    """Attributes:
    negatives: how they are drawn for each target.
    num_negatives: how many; the loss is the mean over the pairs.
    power: exponent of the popularity.
    """

    negatives: Annotated[str, NameIn(NEGATIVES, is_weighted)] = "uniform"
    num_negatives: int = Field(1, ge=1)
    power: float = Field(1.0, ge=0)

    def unread(self) -> dict[str, str]:
        return unread_settings(("power",), NEGATIVES[self.negatives]())


class BPR(SampledObjective):
    """``-log sigma(s+ - s-)``, the mean over targets and their negatives."""

    Config = BPRConfig
    config: BPRConfig

    def __init__(self, config: BPRConfig | None = None) -> None:
        super().__init__(config)
        strategy = NEGATIVES[self.config.negatives]()
        assert isinstance(strategy, WeightedStrategy)
        self.strategy = strategy

    def draw(self, batch: Batch) -> Negatives:
        settings = self.config
        return draw_negatives(batch, self.strategy, settings.num_negatives, shared=False, power=settings.power)

    def num_drawn(self, targets: int) -> int:
        return targets * self.config.num_negatives

    def loss(self, scores: Scores, batch: Batch, drawn: Negatives) -> Loss:
        margin = scores.at(batch.targets.unsqueeze(1)) - scores.at(drawn.items)
        pairs = functional.logsigmoid(margin).masked_fill(~drawn.valid, 0.0).sum(1)
        share = drawn.valid.sum(1).float().mean().clamp_min(1e-9)
        right = (margin.detach() > 0)[drawn.valid].float()
        diagnostics = {"pair_accuracy": float(right.mean())} if len(right) else {}
        return Loss(-batch.mean(pairs) / share, diagnostics)
