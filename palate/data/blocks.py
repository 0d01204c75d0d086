"""Large columns a piece at a time, so that what a step needs beside them does not grow with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

# Rows of a piece: some ten megabytes per temporary column, and few enough pieces to cost no time.
ROWS = 1 << 22


def row_blocks(rows: int, size: int | None = None) -> Iterator[slice]:
    """Slices of at most ``size`` (by default :data:`ROWS`) that cover ``rows`` in order.

    >>> list(row_blocks(5, 3))
    [slice(0, 3, None), slice(3, 5, None)]
    """
    size = size or ROWS
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


def user_blocks(offsets: npt.NDArray[np.int64], size: int | None = None) -> Iterator[tuple[slice, slice]]:
    """Users, and the rows that they own: whole users, and at most ``size`` rows unless one user has more.

    Together the blocks have all rows; a block without any is left out.

    Args:
        offsets: int64 ``[users + 1]``; user ``u`` owns rows ``offsets[u]:offsets[u + 1]``.
        size: by default :data:`ROWS`.

    >>> list(user_blocks(np.array([0, 2, 3, 7]), 3))
    [(slice(0, 2, None), slice(0, 3, None)), (slice(2, 3, None), slice(3, 7, None))]
    """
    users, start, size = len(offsets) - 1, 0, size or ROWS
    while start < users:
        stop = int(np.searchsorted(offsets, offsets[start] + size, side="right")) - 1
        stop = max(stop, start + 1)
        if offsets[stop] > offsets[start]:
            yield slice(start, stop), slice(int(offsets[start]), int(offsets[stop]))
        start = stop


def users_of(offsets: npt.NDArray[np.int64], users: slice) -> npt.NDArray[np.int64]:
    """int64 ``[rows of the block]``: the user of each row of a block of :func:`user_blocks`."""
    return np.repeat(np.arange(users.start, users.stop), np.diff(offsets[users.start : users.stop + 1]))


def count(codes: npt.NDArray[Any], size: int, mask: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[np.int64]:
    """int64 ``[size]``: how often each code from 0 occurs; with a mask, in its rows.

    ``np.bincount`` of the whole column would first make a copy of it in 64 bits.
    """
    counts = np.zeros(size, np.int64)
    for rows in row_blocks(len(codes)):
        block = codes[rows] if mask is None else codes[rows][mask[rows]]
        found = np.bincount(block, minlength=size)
        if len(found) > size:  # a code beyond the table
            counts = np.concatenate([counts, np.zeros(len(found) - size, np.int64)])
            size = len(found)
        counts += found
    return counts


def count_by_user(mask: npt.NDArray[np.bool_], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """int64 ``[users]``: how many of each user's rows are in the mask."""
    counts = np.zeros(len(offsets) - 1, np.int64)
    for users, rows in user_blocks(offsets):
        sums = np.concatenate([[0], np.cumsum(mask[rows])])
        counts[users] = np.diff(sums[offsets[users.start : users.stop + 1] - rows.start])
    return counts
