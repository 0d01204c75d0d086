"""Taken items that the log does not have yet become interactions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from palate.data.blocks import among
from palate.data.feedback.read import NONE, Feedback
from palate.data.log import Log
from palate.data.numbering import recode
from palate.errors import PalateError

DAY = 86_400_000


def join_taken(feedback: Feedback, log: Log, kinds: Sequence[str]) -> tuple[Log, dict[str, Any]]:
    """The log with what was taken in these ways, at its end.

    A shop's own log mostly has the same events, a moment earlier or later, and one purchase is a click, a cart and a
    purchase: what the same user takes of the same item within a day is one interaction, and the log's comes first.

    Returns:
        The log, and the manifest's record: what was taken in these ways, and how much of it was new.

    Raises:
        PalateError: nothing was taken in any of these ways, or a log with ratings, which taken items lack.
    """
    known = feedback.ids["kind"].to_list()
    if not set(kinds) & set(known):
        there = f"there are {', '.join(sorted(known))}" if known else "no event names its kind"
        raise PalateError(
            f"--feedback-kinds {','.join(kinds)}: nothing was taken in that way", f"In the feedback {there}."
        )
    if log.weights is not None:
        raise PalateError(
            "--feedback-kinds: the log has ratings, and what was taken has none",
            "Leave the ratings out (--columns weight=), or leave the option out.",
        )
    assert log.timestamps is not None
    chosen = np.isin(feedback.kinds, [known.index(kind) for kind in kinds if kind in known])
    taken = feedback.take(feedback.taken & chosen & (feedback.users != NONE))
    users, user_ids = _extended(taken.users, feedback.ids["user"], log.user_ids)
    items, item_ids = _extended(taken.items, feedback.ids["item"], log.item_ids)
    pairs = users * len(item_ids) + items
    order = np.lexsort((taken.times, pairs))
    pairs, times = pairs[order], taken.times[order]
    again = np.zeros(len(pairs), bool)
    again[1:] = (pairs[1:] == pairs[:-1]) & (times[1:] - times[:-1] < DAY)
    own = _log_pairs(log, len(item_ids), np.unique(pairs))
    in_log = _within_a_day(pairs, times, *own)
    new = order[~again & ~in_log]
    new = new[np.lexsort((new, taken.times[new]))]
    record = {
        "kinds": {kind: _times_of(known.index(kind), taken) if kind in known else 0 for kind in kinds},
        "taken": len(taken),
        "since": int(taken.times.min()) if len(taken) else None,
        "in_the_log": int(np.count_nonzero(in_log)),
        "again_within_a_day": int(np.count_nonzero(again & ~in_log)),
        "joined": len(new),
    }
    added: dict[str, npt.NDArray[Any]] = {
        "users": users[new].astype(np.uint32),
        "items": items[new].astype(np.uint32),
        "timestamps": taken.times[new],
    }
    joined: dict[str, Any] = {
        name: np.concatenate([column, added.get(name, np.zeros(len(new), column.dtype))])
        for name, column in log.columns.items()
    }
    return replace(log, **joined, user_ids=user_ids, item_ids=item_ids), record


def check_all_there(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse feedback of which a part is gone: what had joined a dataset would leave it.

    Args:
        before, now: records of :func:`join_taken`, of the dataset that is appended to and of the new one.

    Raises:
        PalateError: fewer were taken in one of the ways, or the first of them is later.
    """
    fewer = [kind for kind, count in now["kinds"].items() if count < before["kinds"].get(kind, 0)]
    same = set(before["kinds"]) <= set(now["kinds"])
    later = same and None not in (before.get("since"), now["since"]) and now["since"] > before["since"]
    if fewer or later:
        raise PalateError(
            "--feedback: a part of the feedback that the dataset was prepared with is gone, and interactions that had "
            "joined from it would be lost",
            "Put the deleted files back, or prepare all logs anew with what there is.",
        )


def _times_of(kind: int, taken: Feedback) -> int:
    return int(np.count_nonzero(taken.kinds == kind))


def _extended(
    codes: npt.NDArray[np.uint32], ids: pl.Series, known: pl.Series
) -> tuple[npt.NDArray[np.int64], pl.Series]:
    """Codes of ``ids`` as codes of ``known`` and, after those, of what is new; and the longer table."""
    new = recode(ids, known)
    strangers = np.unique(codes[new[codes] < 0])
    new[strangers] = len(known) + np.arange(len(strangers))
    return new[codes], pl.concat([known, ids.gather(strangers).rename(known.name)]) if len(strangers) else known


def _log_pairs(
    log: Log, width: int, sought: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Pairs and times of the log's rows of the sought pairs, ascending."""
    assert log.timestamps is not None
    pairs = log.users.astype(np.int64) * width + log.items
    rows = np.flatnonzero(among(pairs, sought))
    rows = rows[np.lexsort((log.timestamps[rows], pairs[rows]))]
    return pairs[rows], log.timestamps[rows]


def _within_a_day(
    pairs: npt.NDArray[np.int64],
    times: npt.NDArray[np.int64],
    own: npt.NDArray[np.int64],
    moments: npt.NDArray[np.int64],
) -> npt.NDArray[np.bool_]:
    """bool: which (pair, time) have one of the log's less than a day away. Both are ascending."""
    all_pairs, all_times = np.concatenate([own, pairs]), np.concatenate([moments, times])
    is_own = np.arange(len(all_pairs)) < len(own)
    order = np.lexsort((all_times, all_pairs))
    found = np.zeros(len(all_pairs), bool)
    for way in (order, order[::-1]):
        last = np.maximum.accumulate(np.where(is_own[way], np.arange(len(way)), -1))
        near = way[last]
        same = (last >= 0) & (all_pairs[near] == all_pairs[way]) & (np.abs(all_times[near] - all_times[way]) < DAY)
        found[way] |= same
    return found[len(own) :]
