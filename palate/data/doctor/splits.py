"""The split: whether it holds what it promises, and in which way it flatters or starves a model."""

from __future__ import annotations

import numpy as np

from palate.console import counted
from palate.data.blocks import among, count, count_by_user, user_blocks, users_of
from palate.data.dataset import Dataset, Part
from palate.data.doctor.finding import Finding, Level, few, percent
from palate.data.doctor.times import same_user

MEANING = {
    "leave-last-out": "tests on every user's last item; the same users train, and at all times.",
    "leave-last-n": "tests on every user's last items; the same users train, and at all times.",
    "global-time": "tests on what came after one moment; users and items that are new then are cold.",
    "user": "tests on users that training never saw; their items are known from others, also from later times.",
}


def split_integrity(data: Dataset) -> list[Finding]:
    """Training rows after a user's targets, or of a held-out user."""
    rank = np.array([0, 1, 2, 0], np.uint8)[data.parts]
    back = same_user(data) & (rank[1:] < rank[:-1])
    users = set(data.users_at(np.flatnonzero(back) + 1).tolist())
    context = count_by_user(data.parts == Part.CONTEXT, data.offsets) > 0
    trained = count_by_user(data.parts == Part.TRAIN, data.offsets) > 0
    users |= set(np.flatnonzero(context & trained).tolist())
    name = str(data.manifest.get("split", {}).get("name", "unnamed"))
    if users:
        text = (
            f"{counted(len(users), 'user')} with training interactions after their targets, or held out and trained "
            "on: the split is broken. Run `palate prepare` again."
        )
        shown = few(f"user {data.user_ids[user]}" for user in sorted(users)[:5])
        return [Finding("split", Level.ERROR, text, len(users), len(users) / data.num_users, shown)]
    sizes = count(data.parts, len(Part))
    sums = ", ".join(f"{sizes[part]:,} {part.name.lower()}" for part in Part if sizes[part])
    if name == "none":
        text = f"none holds nothing out: it trains, and cannot be validated or tested on. Interactions: {sums}."
        return [Finding("split", Level.NOTE, text)]
    empty = [word for word, part in (("validation", Part.VALID), ("test", Part.TEST)) if not sizes[part]]
    if empty:
        text = f"The split {name} has no {' and no '.join(empty)} target ({sums})."
        return [Finding("split", Level.ERROR, text, len(empty))]
    return [Finding("split", Level.OK, f"{name} {MEANING.get(name, 'is a split of your own.')} Interactions: {sums}.")]


def repeated_targets(data: Dataset) -> list[Finding]:
    """Test targets that the history holds already: with seen items excluded they can never be hit."""
    targets, again = int(np.count_nonzero(data.parts == Part.TEST)), 0
    if not targets:
        return []
    for users, rows in user_blocks(data.offsets):
        pairs = users_of(data.offsets, users) * (data.num_items + 1) + data.items[rows]
        is_target = data.parts[rows] == Part.TEST
        tested, before = np.sort(pairs[is_target]), pairs[~is_target]
        taken = np.sort(before[among(before, tested)])
        again += int(np.count_nonzero(among(tested, taken)))
    share = again / targets
    if not again:
        return [
            Finding(
                "repeated-targets",
                Level.OK,
                "No test target is in its own history: excluding seen items is a gain that costs nothing.",
            )
        ]
    text = (
        f"{again:,} test targets ({percent(share)}) are in their own history. With seen items excluded they "
        "count as misses; use --keep-seen, or --duplicates first."
    )
    return [Finding("repeated-targets", Level.WARNING if share >= 0.01 else Level.NOTE, text, again, share)]


def cold_targets(data: Dataset) -> list[Finding]:
    """Test targets that training saw never, or hardly: ids cannot rank them."""
    targets = data.items[data.parts == Part.TEST]
    if not len(targets):
        return []
    counts = data.train_counts[targets]
    unseen, rare = int((counts == 0).sum()), int((counts <= 5).sum())
    if not rare:
        return [Finding("cold-targets", Level.OK, "Every test target has more than 5 training interactions.")]
    text = (
        f"{rare:,} of {len(targets):,} test targets ({percent(rare / len(targets))}) have at most 5 training "
        f"interactions, {unseen:,} of them none: here text and pictures must help."
    )
    return [Finding("cold-targets", Level.NOTE, text, rare, rare / len(targets))]
