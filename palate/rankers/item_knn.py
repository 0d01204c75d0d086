"""Items whose users are the same: cosine neighbours of the items in the history."""

from __future__ import annotations

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
from palate.features.co_occurrence import NEIGHBOURS, SHRINKAGE, co_occurrence, history_matrix
from palate.rankers.alike import AlikeRanker
from palate.rankers.stored import REMEDY, read_model, write_model


class ItemKNNConfig(Config):
    """Options of :class:`ItemKNN`.

    Attributes:
        neighbours: Kept for each item.
        shrinkage: Added to the denominator of the cosine: pairs that few users share count for less.
        history_half_life: An item of the history counts half after this many later ones; 0: all count alike,
            as in the papers on it. What was liked last predicts best what comes next, so that is no default here.
    """

    neighbours: int = Field(default=NEIGHBOURS, ge=1)
    shrinkage: float = Field(default=SHRINKAGE, ge=0)
    history_half_life: float = Field(default=2.0, ge=0)


class ItemKNN(AlikeRanker):
    """Scores an item by its summed similarity to the items of the history.

    The similarity is a shrunk cosine of the users of two items: :func:`palate.features.co_occurrence.co_occurrence`.
    An empty history, and one of which no item has a neighbour, are answered by popularity.

    Args:
        similarity: float32 CSR ``[num_items + 1, num_items + 1]``; row ``i`` holds the neighbours of item ``i``.
        counts: float32 ``[num_items + 1]``, training interactions of each item; by default (a model of an earlier
            version, which did not keep them) how alike others are to each item in sum, which grows with popularity.
    """

    name: ClassVar[str] = "item-knn"
    Config: ClassVar[type[ItemKNNConfig]] = ItemKNNConfig

    def __init__(self, similarity: sparse.csr_matrix, config: ItemKNNConfig, counts: Tensor | None = None) -> None:
        self.similarity = similarity
        self.config = config
        self.counts = torch.from_numpy(np.asarray(similarity.sum(axis=0)).ravel()) if counts is None else counts
        self.num_items = similarity.shape[0] - 1

    @classmethod
    def fit(cls, dataset: Dataset, config: ItemKNNConfig | None = None, seed: int = 0) -> Self:
        """Find the neighbours. Nothing is random: ``seed`` is there for likeness with other rankers."""
        config = config or ItemKNNConfig()
        width = dataset.num_items + 1
        blocks = list(co_occurrence(dataset, config.neighbours, config.shrinkage))
        rows, columns, values = (np.concatenate(part) for part in zip(*blocks, strict=True))
        similarity = sparse.csr_matrix((values, (rows, columns)), shape=(width, width), dtype=np.float32)
        return cls(similarity, config, torch.from_numpy(dataset.train_counts.astype(np.float32)))

    def alike_to(self, rows: Sequences) -> sparse.csr_matrix:
        return history_matrix(rows, self.num_items + 1, self.config.history_half_life) @ self.similarity

    def alike(self, item: int) -> Tensor:
        """How alike every item is to one, float32 ``[num_items + 1]``; 0 for those that are no neighbours."""
        return torch.from_numpy(self.similarity[item].toarray()[0])

    def save(self, folder: Path) -> None:
        tensors = {
            "values": torch.from_numpy(self.similarity.data),
            "columns": torch.from_numpy(self.similarity.indices.astype(np.int32)),
            "offsets": torch.from_numpy(self.similarity.indptr.astype(np.int64)),
            "counts": self.counts,
        }
        write_model(folder, self.name, self.num_items, self.config, tensors)

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Self:
        """Read what :meth:`save` wrote; the product is sparse and stays on the CPU, whatever the device."""
        num_items, config, tensors = read_model(folder, cls.name, cls.Config)
        try:
            values, columns, offsets = (tensors[key].numpy() for key in ("values", "columns", "offsets"))
            matrix = sparse.csr_matrix((values, columns, offsets), shape=(num_items + 1, num_items + 1))
            matrix.check_format(full_check=True)  # compiled code reads these positions unchecked later on
            counts = tensors.get("counts")
            if counts is not None and counts.shape != (num_items + 1,):
                raise ValueError(f"counts {tuple(counts.shape)}")
        except (KeyError, ValueError, TypeError) as error:
            raise PalateError(f"{folder} holds no similarities of {num_items} items ({error})", REMEDY) from None
        return cls(matrix, config, counts)

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "similarities": int(self.similarity.nnz)}
