"""Slices: the same evaluation looked at for rare items, new items and short histories only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from palate.data.dataset import Cases
from palate.data.sequences import Sequences, offsets_of
from palate.evaluation.ranks import Ints, Ranks

ALL = "all"
COLD_AMONG_COLD = "cold items, among cold ones"
TAIL_COUNT = 5
TAIL_SHARE = 0.8
HISTORY_BOUNDS = ((0, 3), (4, 10), (11, None))


@dataclass(frozen=True)
class ItemSlice:
    """Targets that are looked at: bool ``[num_items + 1]``."""

    name: str
    items: npt.NDArray[np.bool_]


def item_slices(train_counts: Ints) -> list[ItemSlice]:
    """Items by how often they occur in training.

    - ``tail items, <= 5``: at most five training interactions, cold ones included;
    - ``items, 1-5`` and ``items, > 5``: with one to five training interactions, and with more;
    - ``tail items, bottom 80%``: outside the fifth of the catalogue with the most training interactions
      (equal counts: the lower index counts as more popular);
    - ``cold items``: without any.
    """
    counts = train_counts.copy()
    counts[0] = counts.max(initial=0) + 1  # padding is in no slice
    num_items = len(counts) - 1
    head = round((1 - TAIL_SHARE) * num_items)
    above = train_counts > TAIL_COUNT
    bottom = np.ones(len(counts), np.bool_)
    bottom[np.argsort(-counts, kind="stable")[: head + 1]] = False  # padding sorts first
    return [
        ItemSlice(f"tail items, <= {TAIL_COUNT}", counts <= TAIL_COUNT),
        ItemSlice(f"items, 1-{TAIL_COUNT}", (counts >= 1) & (counts <= TAIL_COUNT)),
        ItemSlice(f"items, > {TAIL_COUNT}", above),
        ItemSlice(f"tail items, bottom {TAIL_SHARE:.0%}", bottom),
        ItemSlice("cold items", counts == 0),
    ]


def history_slices(lengths: Ints) -> Iterator[tuple[str, Ints]]:
    """Name and case numbers of short, middling and long histories (all interactions before the first target)."""
    for low, high in HISTORY_BOUNDS:
        inside = lengths >= low
        if high is not None:
            inside &= lengths <= high
        span = f"<= {high}" if low == 0 else f"{low}-{high}" if high is not None else f"> {low - 1}"
        yield f"histories {span}", np.flatnonzero(inside)


def slices_of(ranks: Ranks, cases: Cases, train_counts: Ints) -> Iterator[tuple[str, Ranks, Ints]]:
    """Every slice that has a case, the whole first: its name, its ranks and the numbers of its cases.

    An item slice keeps the targets that are in it; they keep their ranks in the whole list.
    """
    yield ALL, ranks, np.arange(len(ranks))
    for one in item_slices(train_counts):
        restricted, rows = ranks.restrict(one.items[ranks.items])
        if len(rows):
            yield one.name, restricted, rows
    for name, rows in history_slices(cases.histories.lengths):
        if len(rows):
            yield name, ranks.take(rows), rows


def cold_cases(cases: Cases, train_counts: Ints) -> tuple[Cases, Ints, npt.NDArray[np.bool_]]:
    """Cases with their cold targets only, the numbers of these cases, and the pool of all cold items."""
    pool = train_counts == 0
    pool[0] = False
    keep = pool[cases.targets.values]
    row = np.repeat(np.arange(len(cases)), cases.targets.lengths)
    lengths = np.bincount(row[keep], minlength=len(cases)).astype(np.int64)
    rows = np.flatnonzero(lengths)
    targets = Sequences(cases.targets.values[keep], offsets_of(lengths))
    return Cases(cases.users, cases.histories, targets).take(rows), rows, pool
