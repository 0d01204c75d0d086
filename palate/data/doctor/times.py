"""Times: order, ties, implausible values, and what a split lets a model know of the future."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from palate.console import counted
from palate.data.blocks import row_blocks
from palate.data.dataset import Dataset, Part
from palate.data.doctor.finding import Finding, Level, few, percent, those

_1990, _2100 = 631_152_000_000, 4_102_444_800_000
_HOUR = 3_600_000
_DAY = 24 * _HOUR


def no_times(data: Dataset) -> list[Finding]:
    """Whether there are times at all, and whether they can be true."""
    times = data.timestamps
    if times is None:
        unused = data.manifest.get("order", {}).get("unused_times", [])
        rest = "the order is that of the file, and leaks over time cannot be measured."
        if not unused:
            return [Finding("times", Level.NOTE, f"The source has no times: {rest}", len(data), 1.0)]
        text = (
            f"No column of times was used: {rest} '{unused[0]}' may be one: "
            f"prepare it again with `--columns timestamp={unused[0]}`."
        )
        return [Finding("times", Level.WARNING, text, len(data), 1.0, few(unused))]
    wrong = ~plausible(times)
    if wrong.any():
        share = float(wrong.mean())
        text = (
            f"{int(wrong.sum()):,} times ({percent(share)}) lie before 1990 or after 2100: wrong unit or broken column?"
        )
        return [Finding("times", Level.WARNING, text, int(wrong.sum()), share, few(times[wrong][:5]))]
    first, last = (np.datetime64(int(value), "ms").astype("datetime64[D]") for value in (times.min(), times.max()))
    several = np.diff(data.offsets) > 1
    if not several.any():
        return [Finding("times", Level.OK, f"The log runs from {first} to {last}; nobody has two interactions.")]
    spans = times[data.offsets[1:][several] - 1] - times[data.offsets[:-1][several]]
    middle = float(np.median(spans))
    if middle < _DAY:
        text = (
            f"The log runs from {first} to {last}, but half of the users with several interactions did everything "
            f"within {middle / _HOUR:.1f} hours: times tell when things were entered rather than when they were used, "
            "so order means little."
        )
        short = spans < _DAY
        return [Finding("times", Level.NOTE, text, int(short.sum()), float(short.mean()))]
    span = counted(round(middle / _DAY), "day")
    return [Finding("times", Level.OK, f"The log runs from {first} to {last}; a user's median span is {span}.")]


def plausible(times: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which times (Unix milliseconds) are in the years 1990 to 2099."""
    return (times >= _1990) & (times < _2100)


def time_order(data: Dataset) -> list[Finding]:
    """Steps of a user that go back in time: the dataset promises oldest first."""
    if data.timestamps is None:
        return []
    steps = same_user(data)
    back = steps & (data.timestamps[1:] < data.timestamps[:-1])
    count = int(back.sum())
    if not count:
        return [Finding("time-order", Level.OK, "Every user's interactions are in order of time.")]
    share = count / max(int(steps.sum()), 1)
    users = data.user_ids.gather(np.unique(data.users_at(np.flatnonzero(back) + 1))[:5])
    text = f"{those(count, 'step', share, 'goes', 'go')} back in time: histories hold what came after the target."
    return [Finding("time-order", Level.ERROR, text, count, share, few(f"user {user}" for user in users))]


def time_ties(data: Dataset) -> list[Finding]:
    """Steps at equal times, whose order is arbitrary, and targets whose place is."""
    if data.timestamps is None:
        return []
    steps = same_user(data)
    tied = steps & (data.timestamps[1:] == data.timestamps[:-1])
    total = int(steps.sum())
    share = int(tied.sum()) / total if total else 0.0
    if not tied.any():
        return [Finding("time-ties", Level.OK, "No two interactions of a user share a time.")]
    settled = int(data.manifest.get("order", {}).get("steps_within_a_millisecond", 0))
    if settled:
        share = max(0, int(tied.sum()) - settled) / total
        text = f"{settled:,} steps within the same millisecond are in the order of the source's finer times"
        text += f"; {percent(share)} of steps tie in those, too."
        return [Finding("time-ties", Level.WARNING if share >= 0.05 else Level.NOTE, text, int(tied.sum()), share)]
    targets = (data.parts[1:] == Part.TEST) & steps
    arbitrary = float((tied & targets).sum() / max(targets.sum(), 1))
    how = {"seed": "by the seed", "file": "by their order in the file"}.get(str(data.manifest.get("ties")), "somehow")
    text = (
        f"{percent(share)} of steps tie in time with the step before and were ordered {how}; "
        f"{percent(arbitrary)} of test targets could as well have been the item before them."
    )
    return [Finding("time-ties", Level.WARNING if share >= 0.05 else Level.NOTE, text, int(tied.sum()), share)]


def future(data: Dataset) -> list[Finding]:
    """How much of the training data is after a target's time: what the split leaks of other users' future."""
    test = np.flatnonzero(data.parts == Part.TEST)
    trained = int(np.count_nonzero(data.parts == Part.TRAIN))
    name = str(data.manifest.get("split", {}).get("name", "unnamed"))
    if data.timestamps is None or not len(test) or not trained:
        return []
    when = data.timestamps[test]
    later = 1 - _trained_until(data, when) / trained
    touched = float((later > 0).mean())
    if touched == 0:
        text = f"No training interaction is later than any test target ({name}): nothing of the future leaks."
        return [Finding("time-leakage", Level.OK, text, 0, 0.0)]
    if name == "global-time":
        text = f"Though split by time, {percent(touched)} of test targets are earlier than some training interaction."
        return [Finding("time-leakage", Level.ERROR, text, int((later > 0).sum()), touched)]
    # An item that training knows only from after the target's moment: it could not have been recommended then.
    first = np.full(data.num_items + 1, np.iinfo(np.int64).max)
    for rows in row_blocks(len(data)):
        train = data.parts[rows] == Part.TRAIN
        np.minimum.at(first, data.items[rows][train], data.timestamps[rows][train])
    unborn = (first[data.items[test]] > when) & (data.train_counts[data.items[test]] > 0)
    mean, share = percent(float(later.mean())), percent(float(unborn.mean()))
    text = (
        f"{name} leaks the future of other users: {percent(touched)} of test targets have training interactions that "
        f"are later than they are (for the average target {mean} of all), and {share} are items that training knows "
        "only from later. Fine for comparing models; to forecast what a live system would reach, split by global-time."
    )
    return [Finding("time-leakage", Level.NOTE, text, int((later > 0).sum()), touched)]


def _trained_until(data: Dataset, when: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """int64, for each moment: training interactions at it or before."""
    assert data.timestamps is not None
    order = np.argsort(when)
    ordered, counts = when[order], np.zeros(len(when), np.int64)
    for rows in row_blocks(len(data)):
        times = np.sort(data.timestamps[rows][data.parts[rows] == Part.TRAIN])
        counts += np.searchsorted(times, ordered, side="right")
    found = np.empty_like(counts)
    found[order] = counts
    return found


def same_user(data: Dataset) -> npt.NDArray[np.bool_]:
    """bool ``[interactions - 1]``: whether row ``i + 1`` belongs to the same user as row ``i``."""
    same = np.ones(max(len(data) - 1, 0), np.bool_)
    first = data.offsets[1:-1]  # rows at which another user begins; at either end where users have none
    same[first[(first > 0) & (first < len(data))] - 1] = False
    return same
