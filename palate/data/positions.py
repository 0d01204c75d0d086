"""Positions of the log that are trained on and validated on, as cases."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from palate.data.dataset import Cases, Dataset
from palate.data.sample import user_order
from palate.data.sequences import Sequences, offsets_of
from palate.errors import PalateError

Ints = npt.NDArray[np.int64]


def training_positions(dataset: Dataset, users: npt.ArrayLike | None, cutoffs: int) -> Cases:
    """The last ``cutoffs`` training positions of each user: given what came before, the target is what came next.

    The history of position ``p`` is the user's training items before ``p``, oldest first, and so never holds the
    target nor anything later; there is none without a history.

    Args:
        users: rows of the user table; None takes everybody.
        cutoffs: positions per user, fewer where the user has fewer.

    Returns:
        One case per position, by user and then by time, each with one target. A user occurs once per
        position.

    Raises:
        PalateError: ``cutoffs`` is less than 1.
    """
    if cutoffs < 1:
        raise PalateError(f"{cutoffs} cut-offs per user leave nothing to learn", "Give at least 1.")
    rows = np.arange(dataset.num_users) if users is None else np.asarray(users, np.int64)
    sequences = dataset.train_sequences()
    lengths = sequences.lengths[rows]
    counts = np.clip(lengths - 1, 0, cutoffs)
    which = np.repeat(np.arange(len(rows)), counts)
    # Positions length - count ... length - 1 of each user.
    places = lengths[which] - counts[which] + _running(counts)
    starts = sequences.offsets[rows][which]
    targets = sequences.values[starts + places]
    histories = [sequences.values[start : start + place] for start, place in zip(starts, places, strict=True)]
    values = np.concatenate(histories) if histories else np.empty(0, np.int32)
    return Cases(
        rows[which], Sequences(values, offsets_of(places)), Sequences(targets, np.arange(len(targets) + 1, dtype="i8"))
    )


def validation_positions(dataset: Dataset, users: npt.ArrayLike | None) -> Cases:
    """The validation cases of the given users, each with its first target and some history."""
    cases = dataset.cases("valid")
    selected = cases.histories.lengths > 0
    if users is not None:
        selected &= np.isin(cases.users, np.asarray(users, np.int64))
    cases = cases.take(np.flatnonzero(selected))
    first = cases.targets.values[cases.targets.offsets[:-1]]
    return Cases(cases.users, cases.histories, Sequences(first, np.arange(len(first) + 1, dtype="i8")))


def validation_users(dataset: Dataset, count: int, seed: int, *, within: npt.ArrayLike | None = None) -> Ints:
    """``count`` users that have a validation case, in the order of :func:`~palate.data.sample.sample_users`.

    Where everybody has one (leave-last-out), they are that function's. Fewer of the same seed are within more.

    Args:
        within: take none but these users, unless none of them has a validation case.

    Returns:
        int64, ascending: rows of the user table, fewer where there are fewer.
    """
    order = user_order(dataset, seed)
    able = order[np.isin(order, validation_positions(dataset, None).users)]
    inside = able if within is None else able[np.isin(able, np.asarray(within, np.int64))]
    found: Ints = np.sort((inside if len(inside) else able)[:count])
    return found


def _running(counts: Ints) -> Ints:
    """0, 1, ... count - 1 for every count, joined.

    >>> _running(np.array([2, 0, 3])).tolist()
    [0, 1, 0, 1, 2]
    """
    starts = np.cumsum(counts) - counts
    index: Ints = np.arange(int(counts.sum()), dtype=np.int64) - np.repeat(starts, counts)
    return index
