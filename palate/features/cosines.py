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


def new_neighbours(
    items: Integers, values: Floats, old: Vectors, new: Vectors, *, keep: int, original: int
) -> tuple[Integers, Floats]:
    """Lists for old and new items: new items have neighbours, and join the lists of those that they are near to.

    A row holds the ``keep`` nearest of the original items, and whatever was added later and is nearer than the last of
    these, at most ``keep`` from each call. Nothing that is in a list ever leaves it, so what the old items add to each
    other's scores stays as it is; rows grow wider instead.

    Args:
        items: int32 ``[num_old + 1, width]``, the lists of the old items.
        values: float32, likewise.
        old: ``[num_old + 1, dim]``, after the source's transform; row 0 is padding.
        new: ``[num_new, dim]``, likewise, without padding.
        keep: how many neighbours the lists were made with.
        original: how many items the lists were made of; those with a larger index were added.

    Returns:
        items and values ``[num_old + num_new + 1, width or more]``.
    """
    if old.shape[0] != len(items) or old.shape[1] != new.shape[1]:
        raise PalateError(
            f"lists of {len(items)} rows, vectors {old.shape} and new vectors {new.shape} do not fit together",
            "Give the vectors that the lists were made of.",
        )
    first = len(items)
    grown: dict[int, tuple[npt.NDArray[Any], Floats]] = {}
    for begin, end in pairwise(_starts(old, new)):
        for row, columns, found in _rows(old[begin:end] @ new.T, begin):
            mine = items[row] > 0
            grown[row] = _join(items[row][mine], values[row][mine], columns + first, found, keep, original)
    together = sparse.vstack([old, new]).tocsr() if sparse.issparse(old) else np.concatenate([old, new])
    for begin, end in pairwise(_starts(new, together)):
        for row, columns, found in _rows(new[begin:end] @ together.T, first + begin):
            known, added = columns <= original, (columns > original) & (columns != row)
            nearest = best_of_row(columns[known], found[known], keep, DECIMALS)
            grown[row] = _join(*nearest, columns[added], found[added], keep, original)
    width = max([items.shape[1], *(len(columns) for columns, _ in grown.values())])
    more = (0, new.shape[0]), (0, width - items.shape[1])
    made_items, made_values = np.pad(items, more), np.pad(values, more)
    for row, (columns, found) in grown.items():
        made_items[row, : len(columns)], made_values[row, : len(columns)] = columns, found
    return made_items, made_values


def _join(
    columns: npt.NDArray[Any], values: Floats, new: npt.NDArray[Any], found: Floats, keep: int, original: int
) -> tuple[npt.NDArray[Any], Floats]:
    """A row and those of ``new`` that are nearer than its ``keep``-th original item, best first."""
    known = np.sort(values[columns <= original])[::-1]
    last = known[keep - 1] if len(known) >= keep else 0.0
    found = np.round(found, DECIMALS)
    near = found > last
    joining = best_of_row(new[near], found[near], keep)
    count = len(columns) + len(joining[0])
    return best_of_row(np.concatenate([columns, joining[0]]), np.concatenate([values, joining[1]]), count)


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
