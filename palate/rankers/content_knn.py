"""Items like those that were taken last: the neighbours of the newest items of a history, with nothing trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, model_validator
from scipy import sparse
from torch import Tensor

from palate.config import Config
from palate.data.dataset import Dataset
from palate.data.sequences import Sequences
from palate.errors import PalateError
from palate.features.co_occurrence import weighted_histories
from palate.features.largest import Integers
from palate.features.lexical_store import LexicalStore
from palate.features.neighbour_store import NeighbourList
from palate.features.neighbours import KEEP, neighbour_list, open_source, sources
from palate.features.store import FeatureStore
from palate.rankers.alike import AlikeRanker, only_read
from palate.rankers.stored import REMEDY, read_model, write_model
from palate.recommender import ItemShard, Shard

# What the newest items of a history count, newest first.
LAG_WEIGHTS = (1.0, 0.8, 0.6, 0.4, 0.3)
_LATER = 0.75


class ContentKNNConfig(Config):
    """Options of :class:`ContentKNN`.

    Attributes:
        sources: names of feature stores, and ``co-occurrence`` for the training log; by default the data set's
            ``lexical``, ``text`` and ``image``, as far as they are encoded.
        weights: of the sources, in their order; by default all alike.
        keep: neighbours of each item and source.
        lags: newest items of the history that count.
        half_life: an item counts half after this many later ones; by default 1, 0.8, 0.6, 0.4, 0.3, and from there on
            each three quarters of the one before.
        lag_weights: instead of both, newest first; as many items count as there are weights.
    """

    sources: tuple[str, ...] | None = None
    weights: tuple[float, ...] | None = None
    keep: int = Field(default=KEEP, ge=1)
    lags: int = Field(default=len(LAG_WEIGHTS), ge=1)
    half_life: float | None = Field(default=None, gt=0)
    lag_weights: tuple[float, ...] | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.sources is not None and (not self.sources or len(set(self.sources)) < len(self.sources)):
            raise ValueError("sources are names, each once")
        if self.weights is not None and (self.sources is None or len(self.weights) != len(self.sources)):
            raise ValueError("weights need as many sources, named in the same order")
        if self.lag_weights is not None and (not self.lag_weights or self.half_life is not None):
            raise ValueError("lag_weights are at least one number, and go without half_life")
        if any(weight < 0 for weight in (*(self.weights or ()), *(self.lag_weights or ()))):
            raise ValueError("weights are not below 0")
        return self

    @property
    def by_lag(self) -> tuple[float, ...]:
        """Weights of the newest items, newest first."""
        if self.lag_weights is not None:
            return self.lag_weights
        if self.half_life is not None:
            return tuple(0.5 ** (lag / self.half_life) for lag in range(self.lags))
        later = range(1, self.lags - len(LAG_WEIGHTS) + 1)
        return (*LAG_WEIGHTS[: self.lags], *(LAG_WEIGHTS[-1] * _LATER**lag for lag in later))


class ContentKNN(AlikeRanker):
    """Scores item ``i`` by ``sum over lags l and sources m of lag_weight[l] * weight[m] * S_m[h_l, i]``.

    ``h_1, h_2 ...`` are the newest items of the history, and ``S_m`` the cosine of each item's nearest by
    source ``m`` (:mod:`palate.features.neighbours`). Nothing is trained, and no log is read unless ``co-occurrence`` is
    a source: it answers for items without interactions. A history of which no item has a neighbour, and an empty
    one, are answered by popularity.

    Args:
        lists: one for each of ``config.sources``.
        counts: float32 ``[num_items + 1]``, training interactions of each item.
        config: with ``sources`` named.
    """

    name: ClassVar[str] = "content-knn"
    Config: ClassVar[type[ContentKNNConfig]] = ContentKNNConfig

    def __init__(self, lists: Sequence[NeighbourList], counts: Tensor, config: ContentKNNConfig) -> None:
        self.lists = tuple(lists)
        self.config = config
        self.counts = counts
        self.num_items = len(counts) - 1

    @classmethod
    def features_read(cls, dataset: Dataset, config: ContentKNNConfig) -> dict[str, FeatureStore | LexicalStore]:
        """The stores that :meth:`fit` reads, for the run's record; refused is what it would refuse.

        Raises:
            PalateError: no source, an unknown one, a stale store.
        """
        stores = {name: open_source(dataset, name, dataset.folder) for name in _sources(dataset, config)}
        return {name: store for name, store in stores.items() if store is not None}

    @classmethod
    def fit(cls, dataset: Dataset, config: ContentKNNConfig | None = None, seed: int = 0) -> Self:
        """Make the lists, or read those that the data set's folder keeps. Nothing is random."""
        config = config or ContentKNNConfig()
        names = _sources(dataset, config)
        for name in names:
            open_source(dataset, name, dataset.folder)  # all of them, before the first list is made
        lists = [neighbour_list(dataset, name, keep=config.keep) for name in names]
        counts = torch.from_numpy(dataset.train_counts.astype(np.float32))
        return cls(lists, counts, config.model_copy(update={"sources": names}))

    @cached_property
    def similarity(self) -> sparse.csr_matrix:
        """float32 CSR ``[num_items + 1, num_items + 1]``: the sources' cosines, weighted and summed."""
        return self._similarity()

    def _similarity(self, items: Integers | None = None) -> sparse.csr_matrix:
        """The same, or the rows of some items only, ``[n, num_items + 1]``."""
        weights = self.config.weights or [1.0] * len(self.lists)
        parts = [one.matrix(items) * np.float32(weight) for one, weight in zip(self.lists, weights, strict=True)]
        return sum(parts[1:], start=parts[0]).tocsr()

    def alike_to(self, rows: Sequences) -> sparse.csr_matrix:
        weighted = self._weighted(rows)
        if self.shard is None:
            return weighted @ self.similarity
        read, weighted = only_read(weighted)  # of lists in a mapped file
        return weighted @ self._similarity(read)

    def _weighted(self, rows: Sequences) -> sparse.csr_matrix:
        """The newest items of each history with what they count, float32 CSR ``[B, num_items + 1]``."""
        by_lag = np.array(self.config.by_lag, np.float32)
        lag = np.repeat(rows.offsets[1:], rows.lengths) - 1 - np.arange(len(rows.values))
        weights = np.where(lag < len(by_lag), by_lag[np.minimum(lag, len(by_lag) - 1)], np.float32(0))
        return weighted_histories(rows, weights, self.num_items + 1)

    def alike(self, item: int) -> Tensor:
        """How alike every item is to one, float32 ``[num_items + 1]``; 0 for those that are no neighbours."""
        return torch.from_numpy(self.similarity[item].toarray()[0])

    def save(self, folder: Path) -> None:
        tensors = {"counts": self.counts}
        for place, one in enumerate(self.lists):
            tensors |= {f"{name}.{place}": torch.from_numpy(array) for name, array in one.arrays.items()}
        write_model(folder, self.name, self.num_items, self.config, tensors)

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Self:
        """Read what :meth:`save` wrote; the product is sparse and stays on the CPU, whatever the device."""
        return cls._load(folder, NeighbourList.of_arrays)

    @classmethod
    def load_shard(cls, folder: Path, shard: Shard, device: str = "cpu") -> Self:
        """See :meth:`Recommender.load_shard`. The lists are not divided: they stay in their mapped file.

        Scores read the rows of the newest items; each part checks the rows of its own.
        """

        def mapped(source: str, arrays: Mapping[str, npt.NDArray[Any]]) -> NeighbourList:
            items = arrays["items"]
            return NeighbourList.mapped(source, items, arrays["values"], shard.items(len(items) - 1))

        model = cls._load(folder, mapped)
        model.shard = ItemShard.part(shard, model.num_items)
        return model

    @classmethod
    def _load(cls, folder: Path, make: Callable[[str, Mapping[str, npt.NDArray[Any]]], NeighbourList]) -> Self:
        num_items, config, tensors = read_model(folder, cls.name, cls.Config)
        try:
            names, counts = config.sources or (), tensors["counts"]
            lists = []
            for place, name in enumerate(names):
                last = f".{place}"
                arrays = {k.removesuffix(last): one.numpy() for k, one in tensors.items() if k.endswith(last)}
                lists.append(make(name, arrays))
            if not lists or counts.shape != (num_items + 1,) or any(one.num_items != num_items for one in lists):
                raise ValueError("other sizes")
        except (KeyError, ValueError, TypeError) as error:
            raise PalateError(f"{folder} holds no neighbours of {num_items} items ({error})", REMEDY) from None
        return cls(lists, counts, config)

    def describe(self) -> dict[str, Any]:
        return {
            **super().describe(),
            "sources": {
                one.source: {"neighbours": int((one.items > 0).sum()), "coverage": round(one.coverage, 6)}
                for one in self.lists
            },
        }


def _sources(dataset: Dataset, config: ContentKNNConfig) -> tuple[str, ...]:
    """The sources that were chosen, or the content that is encoded."""
    if config.sources is not None:
        return config.sources
    found = [] if dataset.folder is None else sources(dataset.folder)
    known = tuple(name for name in ("lexical", "text", "image") if name in found)
    if not known:
        raise PalateError(
            f"content-knn compares items by their features, and {dataset.folder or dataset.name} has none",
            f"Make some: `palate encode {dataset.folder or 'DATASET'} --lexical`.",
        )
    return known
