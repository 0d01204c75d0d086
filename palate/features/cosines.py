"""Cosines of item vectors, dense or sparse: the largest of each row, and what new items change in them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse

from palate.errors import PalateError
from palate.features.largest import (
    DECIMALS,
    Floats,
    Integers,
    Triples,
    best_of_row,
    largest_dense,
    largest_sparse,
    padded,
)

# Numbers of a block of the item-item matrix: bounds the memory, whatever the number of items (64 MiB of float32).
_BLOCK_NUMBERS = 2**24
# Vectors of items, all of length 1 or zero: a float32 array, or a float32 CSR matrix.
Vectors: TypeAlias = Any


def largest_cosines(vectors: Vectors, keep: int) -> tuple[Iterator[Triples], int]:
    """The largest products of each row with all others, block by block, and the number of blocks.

    Args:
        vectors: ``[num_items + 1, width]``, rows of length 1, or zero where there is no feature.
    """
    starts = _starts(vectors, vectors)
    across = vectors.T.tocsr() if sparse.issparse(vectors) else vectors.T

    def blocks() -> Iterator[Triples]:
        for first, last in pairwise(starts):
            product = vectors[first:last] @ across
            if sparse.issparse(product):
                yield largest_sparse(product, first, keep, DECIMALS)
            else:
                yield largest_dense(product, first, keep)

    return blocks(), len(starts) - 1


def _starts(rows: Vectors, columns: Vectors) -> list[int]:
    """Where blocks of rows begin, so that no block of the product holds many more than ``_BLOCK_NUMBERS``."""
    count = rows.shape[0]
    if not sparse.issparse(rows):
        step = max(1, _BLOCK_NUMBERS // max(1, columns.shape[0]))
        return [*range(0, count, step), count]
    # A row of the product has at most as many numbers as its terms have items, all counted, and as there are items.
    items_of_term = np.bincount(columns.indices, minlength=columns.shape[1]).astype(np.float64)
    whole = np.concatenate([[0.0], np.cumsum(items_of_term[rows.indices])])
    sizes = np.minimum(np.diff(whole[rows.indptr]), columns.shape[0])
    block = (np.cumsum(sizes) // _BLOCK_NUMBERS).astype(np.int64)
    return [0, *(np.flatnonzero(np.diff(block)) + 1).tolist(), count] if count else [0]


def new_neighbours(items: Integers, values: Floats, old: Vectors, new: Vectors) -> tuple[Integers, Floats]:
    """Lists for old and new items: new items have neighbours, and are neighbours of the old ones where they are nearer.

    Equal to the lists of all vectors together, but the old items are not compared with each other again.

    Args:
        items: int32 ``[num_old + 1, keep]``, the lists of the old items.
        values: float32, likewise.
        old: ``[num_old + 1, width]``, after the source's transform; row 0 is padding.
        new: ``[num_new, width]``, likewise, without padding.

    Returns:
        items and values ``[num_old + num_new + 1, keep]``.
    """
    if old.shape[0] != len(items) or old.shape[1] != new.shape[1]:
        raise PalateError(
            f"lists of {len(items)} rows, vectors {old.shape} and new vectors {new.shape} do not fit together",
            "Give the vectors that the lists were made of.",
        )
    keep, first = items.shape[1], len(items)
    grown_items, grown_values = items.copy(), values.copy()
    starts = _starts(old, new)
    for begin, end in pairwise(starts):
        for row, columns, found in _rows(old[begin:end] @ new.T, begin):
            mine = items[row] > 0
            best = best_of_row(
                np.concatenate([items[row][mine], columns + first]),
                np.concatenate([values[row][mine], np.round(found, DECIMALS)]),
                keep,
            )
            grown_items[row], grown_values[row] = 0, 0.0
            grown_items[row, : len(best[0])], grown_values[row, : len(best[0])] = best
    together = sparse.vstack([old, new]).tocsr() if sparse.issparse(old) else np.concatenate([old, new])
    starts = _starts(new, together)
    blocks = []
    for begin, end in pairwise(starts):
        product = new[begin:end] @ together.T
        largest = largest_sparse if sparse.issparse(product) else largest_dense
        blocks.append(largest(product.tocsr() if sparse.issparse(product) else product, first + begin, keep, DECIMALS))
    items_new, values_new = padded([(rows - first, cols, vals) for rows, cols, vals in blocks], new.shape[0], keep)
    return np.concatenate([grown_items, items_new]), np.concatenate([grown_values, values_new])


def _rows(product: Any, first: int) -> Iterator[tuple[int, npt.NDArray[Any], Floats]]:
    """Row number, columns and values of the rows of a product that hold a value above 0."""
    if sparse.issparse(product):
        csr = product.tocsr()
        for row in np.flatnonzero(np.diff(csr.indptr)).tolist():
            here = slice(csr.indptr[row], csr.indptr[row + 1])
            yield first + row, csr.indices[here], csr.data[here]
        return
    for row, values in enumerate(product):
        columns = np.flatnonzero(values > 0)
        if len(columns):
            yield first + row, columns, values[columns]
