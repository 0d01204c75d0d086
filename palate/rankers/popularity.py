"""The most popular items, for everybody: the bar that any other model has to clear."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from palate.config import Config
from palate.data.dataset import Dataset, Part
from palate.errors import PalateError
from palate.rankers.mapped import MappedRanker
from palate.rankers.stored import REMEDY, read_model, write_model
from palate.recommender import Histories, ItemScorer, as_sequences

_DAY = 24 * 60 * 60 * 1000


class PopularityConfig(Config):
    """Options of :class:`Popularity`.

    Attributes:
        half_life_days: An interaction counts half after this many days before the last training interaction;
            None counts all of them fully, and needs no timestamps.
    """

    half_life_days: float | None = Field(default=None, gt=0)


class Popularity(MappedRanker):
    """Scores an item by its number of training interactions, whatever the history.

    Args:
        counts: float32 ``[num_items + 1]``, position 0 (padding) is ignored.
    """

    name: ClassVar[str] = "popularity"
    Config: ClassVar[type[PopularityConfig]] = PopularityConfig

    def __init__(self, counts: Tensor, config: PopularityConfig) -> None:
        self.config = config
        self.num_items = len(counts) - 1
        self.counts = counts.to(torch.float32).clone()
        self.counts[0] = -torch.inf

    @classmethod
    def fit(cls, dataset: Dataset, config: PopularityConfig | None = None, seed: int = 0) -> Self:
        """Count the training interactions. Nothing is random: ``seed`` is there for likeness with other rankers."""
        config = config or PopularityConfig()
        if config.half_life_days is None:
            return cls(torch.from_numpy(dataset.train_counts.astype(np.float32)), config)
        if dataset.timestamps is None:
            raise PalateError(
                f"half_life_days is set, but the dataset '{dataset.name}' has no timestamps", "Leave it out."
            )
        train = dataset.parts == Part.TRAIN
        times, items = dataset.timestamps[train], dataset.items[train]
        ages = (times.max(initial=0) - times) / _DAY if len(times) else times
        weights = np.exp2(-ages / config.half_life_days)
        counts = np.bincount(items, weights=weights, minlength=dataset.num_items + 1)
        return cls(torch.from_numpy(counts.astype(np.float32)), config)

    def score(self, histories: Histories, candidates: Tensor | None = None) -> Tensor:
        if candidates is not None:
            return self.counts[candidates.to(self.counts.device)]
        return self.counts.expand(len(as_sequences(histories)), -1).clone()

    @property
    def scores_in_blocks(self) -> bool:
        return True

    def item_scorer(self, histories: Histories, memory: int) -> ItemScorer:
        rows = len(as_sequences(histories))
        return lambda items: self.counts[items].expand(rows, -1).clone()

    def save(self, folder: Path) -> None:
        write_model(folder, self.name, self.num_items, self.config, {"counts": self.counts})

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Self:
        num_items, config, tensors = read_model(folder, cls.name, cls.Config)
        counts = tensors.get("counts", torch.empty(0))
        if counts.shape != (num_items + 1,) or not counts.is_floating_point():
            raise PalateError(f"{folder} holds no counts of {num_items} items", REMEDY)
        return cls(counts.to(device), config)
