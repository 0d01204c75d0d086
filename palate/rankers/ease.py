"""EASE: the linear item-to-item model with a solution in closed form."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from pydantic import Field
from scipy import sparse
from torch import Tensor

from palate.config import Config
from palate.data.dataset import Dataset
from palate.data.sequences import Sequences
from palate.errors import PalateError
from palate.features.co_occurrence import history_matrix
from palate.rankers.mapped import MappedRanker
from palate.rankers.stored import REMEDY, read_model, write_model
from palate.recommender import Histories, ItemScorer, as_sequences

LARGEST_GB = 16.0  # of memory while fitting: three dense matrices of items x items


class EASEConfig(Config):
    """Options of :class:`EASE`.

    Attributes:
        l2: Strength of the penalty on the squared weights, in interactions.
        history_half_life: An item of the history counts half after this many later ones; 0, as in the paper: all
            count alike.
    """

    l2: float = Field(default=250.0, gt=0)
    history_half_life: float = Field(default=2.0, ge=0)


class EASE(MappedRanker):
    """Scores an item by weights from the items of the history, learnt so that they reconstruct each other.

    ``B`` minimises ``|X - XB|^2 + l2 |B|^2`` with a diagonal of zeros, ``X`` the users' training items: with ``P`` the
    inverse of ``X'X + l2 I``, ``B_ij = -P_ij / P_jj`` (Steck, "Embarrassingly shallow autoencoders for sparse data",
    WWW 2019, eq. 8). Scores are the history, weighted by age, times ``B``. Memory and storage grow with the square of
    the number of items. An empty history is answered by popularity.

    Args:
        weights: float32 ``[num_items + 1, num_items + 1]``, from row to column; row and column 0 are zeros.
        counts: float32 ``[num_items + 1]``, training interactions of each item.
    """

    name: ClassVar[str] = "ease"
    Config: ClassVar[type[EASEConfig]] = EASEConfig

    def __init__(self, weights: Tensor, config: EASEConfig, counts: Tensor) -> None:
        self.weights, self.config, self.counts = weights, config, counts
        self.num_items = len(weights) - 1

    @classmethod
    def fit(cls, dataset: Dataset, config: EASEConfig | None = None, seed: int = 0) -> Self:
        """Solve it. Nothing is random: ``seed`` is there for likeness with other rankers.

        Raises:
            PalateError: the catalogue is too large for dense matrices of items x items.
        """
        config = config or EASEConfig()
        _check_size(dataset.num_items)
        users = history_matrix(dataset.train_sequences(), dataset.num_items + 1)
        users.data[:] = 1.0  # a user counts once for an item, however often
        gram = torch.from_numpy((users.T @ users).toarray())
        gram.diagonal().add_(config.l2)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
        weights = inverse.div_(-inverse.diagonal().clone())
        weights.fill_diagonal_(0.0)
        return cls(weights, config, torch.from_numpy(dataset.train_counts.astype(np.float32)))

    def score(self, histories: Histories, candidates: Tensor | None = None) -> Tensor:
        rows = as_sequences(histories)
        scores = torch.from_numpy(self._weighted(rows) @ self.weights.numpy())
        scores[torch.from_numpy(rows.lengths == 0)] = self.counts
        scores[:, 0] = -torch.inf
        return scores if candidates is None else scores.gather(1, candidates.cpu())

    def item_scorer(self, histories: Histories, memory: int) -> ItemScorer:
        """See :meth:`Recommender.item_scorer`. It is for a shard: only the weights that are needed are read."""
        rows = as_sequences(histories)
        weighted, newcomers = self._weighted(rows), torch.from_numpy(rows.lengths == 0)

        def scorer(items: slice | Tensor) -> Tensor:
            columns = items if isinstance(items, Tensor) else torch.arange(items.start, items.stop)
            scores = torch.empty(len(rows), len(columns))
            # One history after the other: no more of the mapped file is copied than one reads.
            for row, (start, stop) in enumerate(pairwise(weighted.indptr)):
                read = torch.from_numpy(weighted.indices[start:stop]).long()
                one = sparse.csr_matrix(weighted.data[None, start:stop])
                scores[row] = torch.from_numpy((one @ self.weights[read[:, None], columns].numpy())[0])
            scores[newcomers] = self.counts[columns]
            return scores

        return scorer

    def _weighted(self, rows: Sequences) -> sparse.csr_matrix:
        return history_matrix(rows, self.num_items + 1, self.config.history_half_life)

    def alike(self, item: int) -> Tensor:
        """How much an item speaks for every other, float32 ``[num_items + 1]``; nothing speaks for itself."""
        return self.weights[item].clamp_min(0.0)

    def save(self, folder: Path) -> None:
        write_model(folder, self.name, self.num_items, self.config, {"weights": self.weights, "counts": self.counts})

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Self:
        """Read what :meth:`save` wrote; the product stays on the CPU, whatever the device."""
        num_items, config, tensors = read_model(folder, cls.name, cls.Config)
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        if shapes != {"weights": (num_items + 1, num_items + 1), "counts": (num_items + 1,)}:
            raise PalateError(f"{folder} holds no weights of {num_items} items", REMEDY)
        return cls(tensors["weights"], config, tensors["counts"])

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "weights": self.num_items * (self.num_items - 1)}


def _check_size(num_items: int) -> None:
    needed = 3 * 4 * (num_items + 1) ** 2 / 2**30
    if needed > LARGEST_GB:
        raise PalateError(
            f"ease needs matrices of items x items: {needed:,.0f} GB for {num_items:,} items",
            "Take item-knn, whose neighbours are sparse, or keep fewer items (palate prepare --k-core 5).",
        )
