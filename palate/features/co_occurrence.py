"""Which items were taken by the same users of the training log: what item-knn knows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import sparse

from palate.data.dataset import Dataset
from palate.data.sequences import Sequences
from palate.errors import PalateError
from palate.features.largest import Triples, largest_sparse

# Items whose neighbours are found at a time; bounds the memory to this many rows of the item-item matrix.
_BLOCK = 512
NEIGHBOURS = 100
SHRINKAGE = 10.0


def co_occurrence(dataset: Dataset, neighbours: int = NEIGHBOURS, shrinkage: float = SHRINKAGE) -> Iterator[Triples]:
    """The nearest items of every item, a block of items at a time, from the training interactions only.

    ``similarity(i, j) = |users of i and j| / (sqrt(|users of i| |users of j|) + shrinkage)``, the ``neighbours``
    largest of each ``i``, equal ones by index (Sarwar et al., "Item-based collaborative filtering recommendation
    algorithms", WWW 2001; shrinkage as in Koren, "Factorization meets the neighborhood", KDD 2008).
    """
    width = dataset.num_items + 1
    users = history_matrix(dataset.train_sequences(), width)
    users.data[:] = 1.0  # a user counts once for an item, however often
    counts = np.asarray(users.sum(axis=0)).ravel()
    by_item = users.T.tocsr()
    for start in range(0, width, _BLOCK):
        common = (by_item[start : start + _BLOCK] @ users).tocsr()
        rows = np.repeat(np.arange(common.shape[0]), np.diff(common.indptr)) + start
        values = common.data / (np.sqrt(counts[rows] * counts[common.indices]) + shrinkage)
        common.data = values.astype(np.float32)
        yield largest_sparse(common, start, neighbours)


def history_matrix(rows: Sequences, width: int, half_life: float = 0.0) -> sparse.csr_matrix:
    """Histories as float32 CSR ``[B, width]``, repeated items added up.

    Args:
        half_life: an item counts half after this many later ones; 0: all count alike.
    """
    age = np.repeat(rows.offsets[1:], rows.lengths) - 1 - np.arange(len(rows.values))
    weights = np.exp2(-age / half_life) if half_life else np.ones(len(rows.values))
    return weighted_histories(rows, weights.astype(np.float32), width)


def weighted_histories(
    rows: Sequences, weights: np.ndarray[tuple[int], np.dtype[np.float32]], width: int
) -> sparse.csr_matrix:
    """Histories whose items have a weight each, as float32 CSR ``[B, width]``, those of repeated items added up.

    Raises:
        PalateError: an item that is not among ``1..width - 1``.
    """
    if len(rows.values) and not (rows.values.min() >= 1 and rows.values.max() < width):
        raise PalateError(f"a history holds an item outside 1..{width - 1}", "Map ids with the run's own catalogue.")
    matrix = sparse.csr_matrix((weights, rows.values, rows.offsets), shape=(len(rows), width), copy=True)
    matrix.sum_duplicates()
    return matrix
