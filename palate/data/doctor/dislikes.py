"""Dislikes: how many users have some, and whether they keep what they promise."""

from __future__ import annotations

import numpy as np

from palate.console import agreeing, counted
from palate.data.blocks import among, user_blocks, users_of
from palate.data.dataset import Dataset, Part
from palate.data.doctor.finding import Finding, Level, few, percent


def dislikes(data: Dataset) -> list[Finding]:
    """How far explicit dislikes reach, and any that training must not know."""
    if data.dislikes is None:
        return []
    lengths = data.dislikes.lengths
    users = np.repeat(np.arange(len(lengths)), lengths)
    stride = data.num_items + 1
    wrong, last = np.zeros(len(users), bool), np.full(data.num_users, -1)
    for some, rows in user_blocks(data.offsets):
        owners, own = users_of(data.offsets, some), slice(*data.dislikes.offsets[[some.start, some.stop]])
        pairs, rejected = owners * stride + data.items[rows], users[own] * stride + data.dislikes.values[own]
        taken = np.sort(pairs[among(pairs, np.sort(rejected))])
        wrong[own] = among(rejected, taken)
        train = np.flatnonzero(data.parts[rows] == Part.TRAIN)
        last[owners[train]] = train + rows.start  # of several rows of a user NumPy keeps the last
    wrong |= last[users] < 0
    if data.timestamps is not None and data.dislike_times is not None:
        wrong |= data.dislike_times > data.timestamps[last[users]]
    if wrong.any():
        count, share = int(wrong.sum()), float(wrong.mean())
        text = (
            f"{count:,} dislikes ({percent(share)}) are later than their user's last training interaction, or are of "
            "an item that the user also took: training on them would be a leak. Run `palate prepare` again."
        )
        shown = few(f"user {data.user_ids[int(user)]}" for user in np.unique(users[wrong])[:5])
        return [Finding("dislikes", Level.ERROR, text, count, share, shown)]
    having = int(np.count_nonzero(lengths))
    share = having / max(data.num_users, 1)
    have = agreeing(having, "has", "have")
    text = f"{having:,} of {counted(data.num_users, 'user')} ({percent(share)}) {have} dislikes"
    text += f", {np.median(lengths[lengths > 0]):g} in the median." if having else "."
    left = data.manifest.get("dislikes", {}).get("left_out", {})
    if late := left.get("too_late"):
        were = agreeing(late, "was", "were")
        text += f" {late:,} {were} left out as later than the user's last training interaction."
    if share < 0.5:
        return [Finding("dislikes", Level.NOTE, text + " The other users give no true negatives.", having, share)]
    return [Finding("dislikes", Level.OK, text, having, share)]
