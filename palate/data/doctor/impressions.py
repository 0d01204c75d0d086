"""Impressions: how far they reach, what position does, and whether they keep what they promise."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from palate.console import agreeing, counted
from palate.data.dataset import Dataset, Part
from palate.data.doctor.finding import Finding, Level, few, percent
from palate.data.impressions import Impressions

# More of what was taken than this was not among what was shown: events are lost, or the requests do not match.
_UNSHOWN = 0.1
# Taken this many times as often at the top as further down: position decides much of it.
_BIAS = 2.0


def impressions(data: Dataset) -> list[Finding]:
    """What was shown and taken, and any rows that training must not know."""
    seen = data.impressions
    if seen is None or not len(seen):
        return []
    wrong = _leaks(data, seen)
    if wrong.any():
        count, share = int(wrong.sum()), float(wrong.mean())
        text = (
            f"{count:,} impressions ({percent(share)}) are later than their user's last training interaction, or were "
            "not taken although the user trains on them: aligning on them would be a leak. Run `palate prepare` again."
        )
        shown = few(f"user {data.user_ids[int(user)]}" for user in np.unique(seen.users[wrong])[:5])
        return [Finding("impressions", Level.ERROR, text, count, share, shown)]
    counts = seen.counts()
    taken, users = counts["taken"] / counts["shown"], counts["users"] / max(1, data.num_users)
    text = (
        f"{counts['users']:,} of {counted(data.num_users, 'user')} ({percent(users)}) "
        f"{agreeing(counts['users'], 'has', 'have')} impressions: {counts['shown']:,} in "
        f"{counted(counts['requests'], 'request')}, {percent(taken)} of them taken."
    )
    level = Level.OK if users >= 0.5 else Level.NOTE
    return [Finding("impressions", level, text, counts["shown"], users), *_doubts(data, seen)]


def _leaks(data: Dataset, seen: Impressions) -> npt.NDArray[np.bool_]:
    assert data.timestamps is not None
    train = data.parts == Part.TRAIN
    pairs = data.rows_user[train] * (data.num_items + 1) + data.items[train]
    own = seen.users.astype(np.int64) * (data.num_items + 1) + seen.items
    wrong: npt.NDArray[np.bool_] = ~seen.taken & np.isin(own, pairs)
    first = np.full(data.num_users, np.iinfo(np.int64).max)
    held_out = (data.parts == Part.VALID) | (data.parts == Part.TEST)
    np.minimum.at(first, data.rows_user[held_out], data.timestamps[held_out])
    # Where the log has dates, what was shown in the course of the last day is not late.
    day = 86_400_000 if not (data.timestamps % 86_400_000).any() else 1
    last = np.full(data.num_users, -1)
    np.maximum.at(last, data.rows_user[train], data.timestamps[train] + day - 1)
    return wrong | (seen.times > last[seen.users]) | (seen.times >= first[seen.users])


def _doubts(data: Dataset, seen: Impressions) -> list[Finding]:
    """What makes negatives of the impressions less than they seem."""
    found = []
    if seen.taken.all():
        text = "All that was shown was taken: nothing is a negative. Does the feedback hold what was not taken, too?"
        found.append(Finding("impressions-taken", Level.WARNING, text, len(seen), 1.0))
    elif not seen.taken.any():
        text = "Nothing that was shown was taken: do the events name the same users, items and requests?"
        found.append(Finding("impressions-taken", Level.WARNING, text, 0, 0.0))
    missing = int(np.count_nonzero(seen.positions == 0))
    if missing:
        share = missing / len(seen)
        text = f"{missing:,} impressions ({percent(share)}) have no position: `--shown above` leaves them out."
        found.append(Finding("impressions-position", Level.NOTE, text, missing, share))
    found += _bias(seen)
    record = data.manifest.get("feedback", {})
    unshown, taken = record.get("taken_unshown", 0), record.get("taken", 0)
    if taken and unshown / taken > _UNSHOWN:
        text = (
            f"{unshown:,} of {taken:,} taken items ({percent(unshown / taken)}) were not shown in the request that "
            "they name: clicks without impressions. Are events lost, or do taken items name another request?"
        )
        found.append(Finding("impressions-unshown", Level.WARNING, text, unshown, unshown / taken))
    return found


def _bias(seen: Impressions) -> list[Finding]:
    """How often the first position was taken, against all from the fifth on."""
    top, low = seen.positions == 1, seen.positions >= 5
    if min(np.count_nonzero(top), np.count_nonzero(low)) < 100 or not seen.taken[top].any():
        return []
    rates = [float(seen.taken[rows].mean()) for rows in (top, low)]
    text = f"{percent(rates[0])} of first positions were taken, and {percent(rates[1])} of those from the fifth on."
    if rates[0] < _BIAS * rates[1]:
        return [Finding("impressions-bias", Level.OK, text, 0, rates[0])]
    text += " Much of what was not taken may not have been looked at: try `palate align --shown above`."
    return [Finding("impressions-bias", Level.NOTE, text, 0, rates[0])]
