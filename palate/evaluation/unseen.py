"""Cases that no run has learnt from: what users did after all that is known to have been trained on."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import polars as pl

from palate.data.dataset import Cases, Dataset, Part
from palate.data.sequences import Sequences, offsets_of
from palate.errors import PalateError
from palate.runs.run import Run
from palate.runs.trained_on import Mask, TrainedLog, check_unseen, interactions, trained_logs, used_rows

_PARTS = {"valid": Part.VALID, "test": Part.TEST}


def check_targets_unseen(run: Run, dataset: Dataset, split: str) -> None:
    """Refuse to measure a run on targets that it, or a run that it started from, was trained on.

    A dataset that has grown since a refit holds out mostly interactions that the refit has learnt; so does another
    split of the log that an earlier run was trained on.

    Raises:
        PalateError: some of the targets are among what was trained on.
    """
    check_unseen(run, dataset, split)
    if split not in _PARTS:
        return
    targets = dataset.parts == _PARTS[split]
    seen = fitted_to(run, dataset, targets)
    if seen.any():
        raise PalateError(
            f"{run.folder} has learnt {seen.sum():,} of the {targets.sum():,} {split} targets of {dataset.name}: it is "
            "a refit, or started from a run that was trained on them",
            "Evaluate a run that held them out, or judge by a later day: palate gate OLD NEW --dataset LATER.",
        )


def fitted_to(run: Run, dataset: Dataset, held_out: Mask) -> Mask:
    """bool ``[interactions]``: to which of the interactions that a dataset holds out the weights of a run were fitted.

    All of logs that were trained on whole, and the training rows of those that earlier runs held some of out, as far as
    these are still there and have times (a user may have the same item twice). What merely chose an epoch is left out,
    or a shop that goes on from last night's weights would have nothing to validate by.

    Raises:
        PalateError: see :func:`seen_in`.
    """
    logs = trained_logs(run)
    seen = seen_by(dataset, [log for log in logs if log.whole]) & held_out
    for log in logs:
        if log.whole or log.fingerprint == dataset.fingerprint:
            continue
        other = log.open()
        if other is not None and other.timestamps is not None and dataset.timestamps is not None:
            seen |= _among(dataset, interactions(other, other.parts == Part.TRAIN), held_out)
    return seen


def unseen_cases(dataset: Dataset, seen: Mask) -> Cases:
    """For each user the interactions after the last one that was seen, given all before them.

    Args:
        seen: bool ``[interactions]``, see :func:`seen_in`.

    Returns:
        One case per user who has such interactions; a new user's history is empty.
    """
    place = np.arange(len(dataset))
    # The last row of each user that was seen, or the one before the user's first.
    users = np.flatnonzero(np.diff(dataset.offsets) > 0)
    starts = dataset.offsets[users]
    last = np.full(dataset.num_users, -1, np.int64)
    if len(users):
        last[users] = np.maximum.reduceat(np.where(seen, place, -1), starts)
    target = place > last[dataset.rows_user]
    counts = np.bincount(dataset.rows_user[target], minlength=dataset.num_users).astype(np.int64)
    chosen = np.flatnonzero(counts)
    before = np.isin(dataset.rows_user, chosen) & ~target
    lengths = np.bincount(dataset.rows_user[before], minlength=dataset.num_users).astype(np.int64)[chosen]
    targets = offsets_of(counts[chosen])
    times, asked = None, None
    if dataset.timestamps is not None:
        times, asked = dataset.timestamps[before], dataset.timestamps[target][targets[:-1]]
    histories = Sequences(dataset.items[before], offsets_of(lengths), times, asked)
    return Cases(chosen, histories, Sequences(dataset.items[target], targets))


def seen_by(dataset: Dataset, logs: Iterable[TrainedLog], known: Mask | None = None) -> Mask:
    """bool ``[interactions]``: which interactions of a dataset one of some logs had, or are ``known`` to be seen.

    After a year of warm starts there are hundreds of logs. The newest is looked at first, and none is opened that
    could add nothing: all interactions until its last moment are seen already.

    Raises:
        PalateError: see :func:`seen_in`.
    """
    seen = np.zeros(len(dataset), np.bool_) if known is None else known.copy()
    for log in sorted(logs, key=lambda log: math.inf if log.until is None else log.until, reverse=True):
        if log.until is None or dataset.timestamps is None or not seen[dataset.timestamps <= log.until].all():
            seen |= seen_in(dataset, log)
    return seen


def seen_in(dataset: Dataset, log: TrainedLog) -> Mask:
    """bool ``[interactions]``: which interactions of a dataset a log had, matched by user, item and time.

    Those that chose a run's epoch count as well, and so do the histories of held-out users. A log whose dataset is gone
    had, as far as is known, everything until its last moment.

    Raises:
        PalateError: its dataset is gone, and there are no times.
    """
    if log.fingerprint == dataset.fingerprint:
        return used_rows(dataset, log.whole)
    other = log.open()
    if other is None:
        if log.until is None or dataset.timestamps is None:
            raise PalateError(
                f"the dataset {log.name} ({log.path}) that a run was trained on is not there any more, so what the run "
                "has seen is not known",
                "Keep datasets as long as their runs, or use logs with times.",
            )
        until: Mask = dataset.timestamps <= log.until
        return until
    return _among(dataset, log.of(other), np.ones(len(dataset), np.bool_))


def _among(dataset: Dataset, theirs: pl.DataFrame, rows: Mask) -> Mask:
    """bool ``[interactions]``: which of some interactions of a dataset are among others, by what both say of them."""
    ours = interactions(dataset, rows)
    keys = [name for name in ours.columns if name in theirs.columns]
    found = ours.with_row_index("row").join(theirs.select(keys).unique(), on=keys, how="semi")["row"]
    seen = np.zeros(len(dataset), np.bool_)
    seen[np.flatnonzero(rows)[found.to_numpy()]] = True
    return seen
