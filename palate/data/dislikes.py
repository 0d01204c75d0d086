"""What users explicitly disliked: apart from what they liked, and only as far as training may know it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from palate.data.filters import Filters
from palate.data.log import Log
from palate.data.numbering import recode
from palate.data.sequences import Sequences, offsets_of
from palate.errors import PalateError

_OPTION = "--disliked-at-most"
# Why a low rating is no dislike of the dataset, in the order in which it is checked: manifest's word -> ours.
REASONS = {
    "outside": "of a user or an item that the filters took",
    "liked": "liked by the same user at another time",
    "repeated": "there twice",
    "untrained": "of a user without a training interaction",
    "too_late": "after the user's last training interaction",
}


def check(filters: Filters) -> None:
    """Refuse, before anything is read, a threshold that would make one rating a like and a dislike at once."""
    most, least = filters.disliked_at_most, filters.min_rating
    if most is None:
        return
    if least is None:
        raise PalateError(
            f"{_OPTION} {most:g} without --min-rating: a low rating would be a like and a dislike at once",
            "Say from which rating on an item is liked, for example --min-rating 4.",
        )
    if not most < least:
        raise PalateError(
            f"{_OPTION} {most:g} is not below --min-rating {least:g}, so ratings would be likes and dislikes at once",
            f"Give a number below {least:g}, or leave the option out.",
        )


def set_aside(log: Log, most: float) -> tuple[Log, Log]:
    """The rows rated at most ``most``, and all rows; both remember their place in the source.

    The likes are left to the filters alone, so that a dataset's sequences are the same with its dislikes and without.
    """
    ratings = log.weights
    if ratings is None:
        raise PalateError(f"the source has no ratings for {_OPTION}", "Leave the option out.")
    log = replace(log, places=np.arange(len(log)))
    low = np.flatnonzero(ratings <= most)
    if not len(low):
        raise PalateError(
            f"{_OPTION} {most:g}: the lowest of all ratings is {ratings.min():g}",
            "Give a number of the source's own scale.",
        )
    return log.take(low), log


def keep(
    disliked: Log, log: Log, train: npt.NDArray[np.bool_], most: float
) -> tuple[Sequences, npt.NDArray[np.int64] | None, dict[str, Any]]:
    """What training may know of the dislikes.

    A dislike must not be later than its user's last training interaction: earlier in time or, where times are equal
    or there are none, earlier in the source. Of an item that the user likes as well, in whatever part, there is no
    dislike: the user's mind has changed, and training would push down what it pulls up, or what is tested.

    Args:
        disliked: from :func:`set_aside`.
        log: the likes after all filters, in user order, each user's oldest first, with their places.
        train: bool ``[rows of log]``, which of them train.
        most: the threshold, for the manifest.

    Returns:
        One row per user with item indices (oldest first, each once), their times (int64 Unix milliseconds, or None),
        and the manifest's record: what was found, left out and why, and kept.

    Raises:
        PalateError: nothing is left.
    """
    left: dict[str, int] = dict.fromkeys(REASONS, 0)
    record: dict[str, Any] = {"at_most": most, "found": len(disliked), "left_out": left}

    def only(mask: npt.NDArray[np.bool_], reason: str) -> None:
        nonlocal disliked
        left[reason] = int(np.count_nonzero(~mask))
        disliked = disliked.take(mask)

    users, items = recode(disliked.user_ids, log.user_ids), recode(disliked.item_ids, log.item_ids)
    only((users[disliked.users] >= 0) & (items[disliked.items] >= 0), "outside")
    disliked = replace(
        disliked,
        users=users[disliked.users].astype(np.uint32),
        items=items[disliked.items].astype(np.uint32),
        user_ids=log.user_ids,
        item_ids=log.item_ids,
    )
    only(~np.isin(_pairs(disliked), _pairs(log)), "liked")
    keys: list[npt.NDArray[Any]] = [*_moment(disliked)[::-1], disliked.users]
    disliked = disliked.take(np.lexsort(keys))
    first = np.zeros(len(disliked), bool)
    first[np.unique(_pairs(disliked), return_index=True)[1]] = True
    only(first, "repeated")
    last = np.full(len(log.user_ids), -1)
    rows = np.flatnonzero(train)
    last[log.users[rows]] = rows  # of several rows of a user NumPy keeps the last
    only(last[disliked.users] >= 0, "untrained")
    only(_not_later(_moment(disliked), _moment(log.take(last[disliked.users]))), "too_late")
    if not len(disliked):
        why = "; ".join(f"{count:,} {REASONS[reason]}" for reason, count in left.items() if count)
        raise PalateError(
            f"{_OPTION} {most:g} keeps none of {record['found']:,} low ratings ({why})",
            "Make the filters less strict, or leave the option out.",
        )
    lengths = disliked.user_counts()
    record |= {"kept": len(disliked), "users": int(np.count_nonzero(lengths))}
    return Sequences((disliked.items + 1).astype(np.int32), offsets_of(lengths)), disliked.timestamps, record


def _pairs(log: Log) -> npt.NDArray[np.int64]:
    return log.users.astype(np.int64) * len(log.item_ids) + log.items


def _moment(log: Log) -> list[npt.NDArray[Any]]:
    """When each row happened: its time, if there is one, then its place in the source."""
    assert log.places is not None
    return [*log.time_keys, log.places]


def _not_later(ours: list[npt.NDArray[Any]], theirs: list[npt.NDArray[Any]]) -> npt.NDArray[np.bool_]:
    *time, place = zip(ours, theirs, strict=True)
    before = place[0] < place[1]
    for mine, other in reversed(time):
        before = (mine < other) | ((mine == other) & before)
    return before
