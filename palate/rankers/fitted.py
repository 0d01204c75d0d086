"""Rankers that are counted or solved in one go, not trained by gradient."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Self

from palate.config import Config as Options
from palate.data.dataset import Dataset
from palate.features.lexical_store import LexicalStore
from palate.features.store import FeatureStore
from palate.recommender import Recommender


class FittedRanker(Recommender):
    """A ranker of item ids that :meth:`fit` makes of a dataset.

    Attributes:
        Config: its hyper-parameters; without any, options are refused.
    """

    Config: ClassVar[type[Options]] = Options

    @classmethod
    @abstractmethod
    def fit(cls, dataset: Dataset, config: Any = None, seed: int = 0) -> Self:
        """The ranker of the dataset's training split.

        Args:
            config: a ``Config`` of this class; None: its defaults.
            seed: of everything random.
        """

    @classmethod
    def features_read(cls, dataset: Dataset, config: Any) -> dict[str, FeatureStore | LexicalStore]:
        """The stores that :meth:`fit` reads, for the run's record; most read none.

        Raises:
            PalateError: one that is missing or stale.
        """
        return {}
