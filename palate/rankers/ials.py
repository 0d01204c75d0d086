"""iALS: matrix factorisation of implicit feedback by alternating least squares."""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from palate.config import Config
from palate.data.dataset import Dataset
from palate.data.sequences import Sequences
from palate.errors import PalateError
from palate.features.co_occurrence import history_matrix
from palate.rankers.mapped import MappedRanker
from palate.rankers.stored import REMEDY, read_model, write_model
from palate.recommender import Histories, ItemScorer, as_sequences

_USERS = 256  # whose factors are solved at a time


class IALSConfig(Config):
    """Options of :class:`IALS`.

    Attributes:
        factors: Numbers per item and per user.
        l2: Strength of the penalty on the squared factors.
        alpha: Weight of an item that was taken; of one that was not, 1.
        iterations: Passes over all users and all items.
    """

    factors: int = Field(default=64, ge=1)
    l2: float = Field(default=1.0, gt=0)
    alpha: float = Field(default=10.0, gt=0)
    iterations: int = Field(default=15, ge=1)


class IALS(MappedRanker):
    """Scores an item by the product of its factors and the user's, which are solved from the history.

    Minimises ``sum_ui c_ui (p_ui - x_u y_i)^2 + l2 (|x|^2 + |y|^2)``, ``p`` 1 where user ``u`` took item ``i`` and 0
    elsewhere, ``c`` ``alpha`` and 1 (Hu, Koren & Volinsky, "Collaborative filtering for implicit feedback datasets",
    ICDM 2008; eq. 3 there has ``1 + alpha`` for ``c``). The factors of items are found by the library ``implicit``;
    those of a history by its eq. 4, so that anybody's history is answered. The order of a history does not count. An
    empty one is answered by popularity.

    Args:
        items: float32 ``[num_items + 1, factors]``; row 0 is zeros.
        counts: float32 ``[num_items + 1]``, training interactions of each item.
    """

    name: ClassVar[str] = "ials"
    Config: ClassVar[type[IALSConfig]] = IALSConfig

    def __init__(self, items: Tensor, config: IALSConfig, counts: Tensor) -> None:
        self.items, self.config, self.counts = items, config, counts
        self.num_items = len(items) - 1

    @classmethod
    def fit(cls, dataset: Dataset, config: IALSConfig | None = None, seed: int = 0) -> Self:
        """Find the factors.

        Raises:
            PalateError: ``implicit`` is not installed.
        """
        config = config or IALSConfig()
        users = history_matrix(dataset.train_sequences(), dataset.num_items + 1)
        users.data[:] = 1.0  # a user counts once for an item, however often
        model = _library()(
            factors=config.factors,
            regularization=config.l2,
            alpha=config.alpha,
            iterations=config.iterations,
            num_threads=torch.get_num_threads(),
            use_gpu=False,
            random_state=seed,
        )
        model.fit(users, show_progress=False)
        items = torch.from_numpy(np.array(model.item_factors, dtype=np.float32))
        items[0] = 0.0
        return cls(items, config, torch.from_numpy(dataset.train_counts.astype(np.float32)))

    def score(self, histories: Histories, candidates: Tensor | None = None) -> Tensor:
        rows = as_sequences(histories)
        scores = self._users(rows) @ self.items.T
        scores[torch.from_numpy(rows.lengths == 0)] = self.counts
        scores[:, 0] = -torch.inf
        return scores if candidates is None else scores.gather(1, candidates.cpu())

    @property
    def scores_in_blocks(self) -> bool:
        return True

    def item_scorer(self, histories: Histories, memory: int) -> ItemScorer:
        rows = as_sequences(histories)
        users, newcomers = self._users(rows), torch.from_numpy(rows.lengths == 0)

        def scorer(items: slice | Tensor) -> Tensor:
            scores = users @ self.items[items].T
            scores[newcomers] = self.counts[items]
            return scores

        return scorer

    @cached_property
    def _gram(self) -> Tensor:
        """What every user's system begins with: ``Y'Y + l2 I``."""
        return self.items.T @ self.items + self.config.l2 * torch.eye(self.items.shape[1])

    def _users(self, rows: Sequences) -> Tensor:
        """Factors of histories ``[B, factors]``: ``(Y'Y + l2 I + (alpha - 1) Y_u'Y_u) x = alpha Y_u'1``."""
        taken = history_matrix(rows, self.num_items + 1)
        taken.data[:] = 1.0
        out = [torch.empty(0, self.items.shape[1])]
        for start in range(0, len(rows), _USERS):
            part = taken[start : start + _USERS]
            own = [self.items[torch.from_numpy(part.indices[a:b].astype(np.int64))] for a, b in pairwise(part.indptr)]
            left = torch.stack([self._gram + (self.config.alpha - 1) * one.T @ one for one in own])
            right = torch.stack([self.config.alpha * one.sum(0) for one in own])
            out.append(torch.linalg.solve(left, right))
        return torch.cat(out)

    def save(self, folder: Path) -> None:
        write_model(folder, self.name, self.num_items, self.config, {"items": self.items, "counts": self.counts})

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Self:
        """Read what :meth:`save` wrote; small systems are solved on the CPU, whatever the device."""
        num_items, config, tensors = read_model(folder, cls.name, cls.Config)
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        if shapes != {"items": (num_items + 1, config.factors), "counts": (num_items + 1,)}:
            raise PalateError(f"{folder} holds no factors of {num_items} items", REMEDY)
        return cls(tensors["items"], config, tensors["counts"])

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "factors": self.config.factors}


def _library() -> Any:
    try:
        from implicit.als import AlternatingLeastSquares
    except ImportError:
        raise PalateError("ials needs the package 'implicit'", "pip install 'palate[implicit]'") from None
    return AlternatingLeastSquares
