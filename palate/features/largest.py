"""The largest entries of each row of a similarity matrix, a block of rows at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int32]
# Rows, columns and values of the entries that were retained, row by row, best first.
Triples = tuple[npt.NDArray[np.int64], Integers, Floats]

# Equal items should have equal cosines, and order by index then, but products of floats differ in the last bits.
DECIMALS = 6


def best_of_row(
    columns: npt.NDArray[Any], values: Floats, keep: int, decimals: int | None = None
) -> tuple[npt.NDArray[Any], Floats]:
    """The ``keep`` largest values of one row that are above 0, best first, equal ones by column.

    Args:
        columns: of the values, in any order.
        decimals: to round to before comparing; None compares the values as they are.

    >>> items, values = best_of_row(np.array([4, 1, 3, 2]), np.float32([0.5, 0.2, -0.1, 0.5]), keep=2)
    >>> items.tolist(), values.tolist()
    ([2, 4], [0.5, 0.5])
    """
    if len(values) > keep:
        last = np.partition(values, len(values) - keep)[len(values) - keep]
        # Rounding may lift a value by half a unit: nothing that could still tie with the last one is left out.
        some = np.flatnonzero(values >= last - (0 if decimals is None else 10.0**-decimals))
        columns, values = columns[some], values[some]
    if decimals is not None:
        values = np.round(values, decimals)
    order = np.lexsort((columns, -values))[:keep]
    columns, values = columns[order], values[order]
    positive = values > 0
    return columns[positive], values[positive]


def largest_sparse(block: sparse.csr_matrix, first: int, keep: int, decimals: int | None = None) -> Triples:
    """The largest entries of a block of rows off the diagonal.

    Args:
        block: CSR ``[rows, items]``, duplicates summed.
        first: which item the block's first row is.
    """
    found = []
    for row in range(block.shape[0]):
        here = slice(block.indptr[row], block.indptr[row + 1])
        columns, values = block.indices[here], block.data[here]
        off = columns != first + row
        found.append(best_of_row(columns[off], values[off], keep, decimals))
    return _triples(found, first)


def largest_dense(block: Floats, first: int, keep: int, decimals: int | None = DECIMALS) -> Triples:
    """The same for a dense block ``[rows, items]``, which is overwritten on the diagonal."""
    found = []
    for row, values in enumerate(block):
        values[first + row] = 0.0
        columns = np.flatnonzero(values > 0)
        found.append(best_of_row(columns, values[columns], keep, decimals))
    return _triples(found, first)


def _triples(found: list[tuple[npt.NDArray[Any], Floats]], first: int) -> Triples:
    lengths = [len(columns) for columns, _ in found]
    rows = np.repeat(np.arange(first, first + len(found)), lengths)
    if not found:
        return rows, np.empty(0, np.int32), np.empty(0, np.float32)
    columns = np.concatenate([columns for columns, _ in found]).astype(np.int32)
    return rows, columns, np.concatenate([values for _, values in found]).astype(np.float32)


def padded(blocks: list[Triples], rows: int, keep: int) -> tuple[Integers, Floats]:
    """Triples as two matrices ``[rows, keep]``: columns and values, 0 where a row has fewer."""
    items, values = np.zeros((rows, keep), np.int32), np.zeros((rows, keep), np.float32)
    for at, columns, found in blocks:
        if len(at):
            starts = np.flatnonzero(np.concatenate([[True], at[1:] != at[:-1]]))
            place = np.arange(len(at)) - np.repeat(starts, np.diff(np.append(starts, len(at))))
            items[at, place], values[at, place] = columns, found
    return items, values
