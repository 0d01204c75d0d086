"""Items whose users are the same: cosine neighbours of the items in the history."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from scipy import sparse
from torch import Tensor

from palate.config import Config
from palate.data.dataset import Dataset
from palate.data.sequences import Sequences
from palate.errors import PalateError
from palate.rankers.stored import REMEDY, read_model, write_model
from palate.recommender import Histories, Recommender, as_sequences

# Items whose neighbours are found at a time; bounds the memory of the fit to this many rows of the item-item matrix.
_BLOCK = 512


class ItemKNNConfig(Config):
    """Options of :class:`ItemKNN`.

    Attributes:
        neighbours: Kept for each item.
        shrinkage: Added to the denominator of the cosine: pairs that few users share count for less.
        history_half_life: An item of the history counts half after this many later ones; 0: all count alike,
            as in the papers below. What was liked last says most about what comes next, so that is no default here.
    """

    neighbours: int = Field(default=100, ge=1)
    shrinkage: float = Field(default=10.0, ge=0)
    history_half_life: float = Field(default=2.0, ge=0)


class ItemKNN(Recommender):
    """Scores an item by its summed similarity to the items of the history.

    ``similarity(i, j) = |users of i and j| / (sqrt(|users of i| |users of j|) + shrinkage)``, the ``neighbours``
    largest of each ``i`` (Sarwar et al., "Item-based collaborative filtering recommendation algorithms", WWW 2001;
    shrinkage as in Koren, "Factorization meets the neighborhood", KDD 2008).

    Args:
        similarity: float32 CSR ``[num_items + 1, num_items + 1]``; row ``i`` holds the neighbours of item ``i``.
    """

    name: ClassVar[str] = "item-knn"
    Config: ClassVar[type[ItemKNNConfig]] = ItemKNNConfig

    def __init__(self, similarity: sparse.csr_matrix, config: ItemKNNConfig) -> None:
        self.similarity = similarity
        self.config = config
        self.num_items = similarity.shape[0] - 1

    @classmethod
    def fit(cls, dataset: Dataset, config: ItemKNNConfig | None = None, seed: int = 0) -> Self:
        """Find the neighbours. Nothing is random: ``seed`` is there for likeness with other rankers."""
        config = config or ItemKNNConfig()
        width = dataset.num_items + 1
        users = _matrix(dataset.train_sequences(), width)
        users.data[:] = 1.0  # a user counts once for an item, however often
        counts = np.asarray(users.sum(axis=0)).ravel()
        by_item = users.T.tocsr()
        blocks = []
        for start in range(0, width, _BLOCK):
            common = (by_item[start : start + _BLOCK] @ users).tocoo()
            rows, columns = common.row + start, common.col
            values = common.data / (np.sqrt(counts[rows] * counts[columns]) + config.shrinkage)
            blocks.append(_largest(rows, columns, values.astype(np.float32), config.neighbours))
        rows, columns, values = (np.concatenate(part) for part in zip(*blocks, strict=True))
        return cls(sparse.csr_matrix((values, (rows, columns)), shape=(width, width), dtype=np.float32), config)

    def score(self, histories: Histories, candidates: Tensor | None = None) -> Tensor:
        rows = as_sequences(histories)
        weighted = _matrix(rows, self.num_items + 1, self.config.history_half_life)
        scores = torch.from_numpy((weighted @ self.similarity).toarray())
        scores[:, 0] = -torch.inf
        return scores if candidates is None else scores.gather(1, candidates.cpu())

    def save(self, folder: Path) -> None:
        tensors = {
            "values": torch.from_numpy(self.similarity.data),
            "columns": torch.from_numpy(self.similarity.indices.astype(np.int32)),
            "offsets": torch.from_numpy(self.similarity.indptr.astype(np.int64)),
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
        except (KeyError, ValueError) as error:
            raise PalateError(f"{folder} holds no similarities of {num_items} items ({error})", REMEDY) from None
        return cls(matrix, config)

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "similarities": int(self.similarity.nnz)}


def _matrix(rows: Sequences, width: int, half_life: float = 0.0) -> sparse.csr_matrix:
    """Histories as float32 CSR ``[B, width]``, repeated items added up."""
    if len(rows.values) and not (rows.values.min() >= 1 and rows.values.max() < width):
        raise PalateError(f"a history holds an item outside 1..{width - 1}", "Map ids with the run's own catalogue.")
    data = np.ones(len(rows.values), np.float32)
    if half_life:
        age = np.repeat(rows.offsets[1:], rows.lengths) - 1 - np.arange(len(rows.values))
        data = np.exp2(-age / half_life).astype(np.float32)
    matrix = sparse.csr_matrix((data, rows.values, rows.offsets), shape=(len(rows), width), copy=True)
    matrix.sum_duplicates()
    return matrix


def _largest(
    rows: npt.NDArray[Any], columns: npt.NDArray[Any], values: npt.NDArray[np.float32], keep: int
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[np.float32]]:
    """The ``keep`` largest entries of each row off the diagonal, equal ones by column."""
    off = rows != columns
    rows, columns, values = rows[off], columns[off], values[off]
    order = np.lexsort((columns, -values, rows))
    rows, columns, values = rows[order], columns[order], values[order]
    starts = np.concatenate([[True], rows[1:] != rows[:-1]]) if len(rows) else np.empty(0, np.bool_)
    first = np.maximum.accumulate(np.where(starts, np.arange(len(rows)), 0)) if len(rows) else rows
    kept = np.arange(len(rows)) - first < keep
    return rows[kept], columns[kept], values[kept]
