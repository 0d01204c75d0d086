"""What the training loop knows of a ranker: a module with features, which is a Recommender once it is trained."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from palate.features.store import FeatureStore
from palate.objectives import Objective
from palate.rankers.config import TrainedConfig
from palate.rankers.step import TrainingStep
from palate.recommender import Recommender


class TrainedRanker(nn.Module, Recommender):
    """A ranker of item sequences that is trained by gradient.

    An empty history is answered by popularity: nothing was learnt about users of whom nothing is known.

    Args:
        config: hyper-parameters, of the subclass's own ``Config``.
        num_items: catalogue size; indices run from 1.
        widths: width of each feature modality, by name.
    """

    Config: ClassVar[type[TrainedConfig]] = TrainedConfig
    # Whether a position sees its past only, and is trained on the next item.
    causal: ClassVar[bool] = True
    # Whether an item may have a vector of its own, learnt from the log alone (the modality ``id``).
    reads_ids: ClassVar[bool] = True

    def __init__(self, config: TrainedConfig, num_items: int, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.config = config
        self.num_items = num_items
        self.widths = {name: int(widths[name]) for name in config.modalities if name != "id"}
        # Scores after an empty history; set from the training counts.
        self.popularity: Tensor | None = None

    @abstractmethod
    def set_features(self, stores: Mapping[str, FeatureStore], warm: Tensor) -> None:
        """Give the model its frozen features.

        Args:
            stores: one per modality other than ``id``.
            warm: bool ``[num_items + 1]``, items with training interactions.
        """

    @abstractmethod
    def training_step(self, objective: Objective, rows: bool = False) -> TrainingStep:
        """What makes the loss of a batch: the trainer does the rest.

        Args:
            objective: the loss that was chosen.
            rows: make the vectors of the items only that a step reads; see :class:`palate.rankers.step.ObjectiveStep`.
        """

    @property
    def reads_times(self) -> bool:
        return self.config.reads_times

    def notes(self) -> list[str]:
        """What a person should know of the model before it is trained."""
        return []

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the weights are."""
