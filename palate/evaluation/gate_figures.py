"""What a gate looks at: two runs on the same cases, as figures with intervals, and the verdict on them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from palate.evaluation.ranks import Floats, Ranks
from palate.evaluation.statistics import LEVEL, Estimate, bootstrap

Verdict = Literal["pass", "worse", "undecided"]
_CASES = 4096  # whose lists are compared at a time


@dataclass(frozen=True)
class SliceOfCases:
    """Both runs on some of the cases, or on some of their targets."""

    name: str
    cases: int
    old: Estimate
    new: Estimate
    difference: Estimate


def slices_of_cases(
    old: Ranks,
    new: Ranks,
    measure: Callable[[Ranks], Floats],
    known_users: npt.NDArray[np.bool_],
    known_items: npt.NDArray[np.bool_],
    seed: int,
) -> list[SliceOfCases]:
    """The whole, then users and items by whether the old run knows them."""
    found = [_slice("all", measure(old), measure(new), seed)]
    for name, rows in (
        ("users that OLD knows", np.flatnonzero(known_users)),
        ("users that are new", np.flatnonzero(~known_users)),
    ):
        if 0 < len(rows) < len(known_users):
            found.append(_slice(name, measure(old)[rows], measure(new)[rows], seed))
    for name, items in (("items that OLD knows", known_items), ("items that are new", ~known_items)):
        ours, theirs = (ranks.restrict(items[ranks.items])[0] for ranks in (old, new))
        if len(ours) and not items[old.items].all():
            found.append(_slice(name, measure(ours), measure(theirs), seed))
    return found


def _slice(name: str, old: Floats, new: Floats, seed: int) -> SliceOfCases:
    figures = {"old": old[None], "new": new[None], "difference": (new - old)[None]}
    return SliceOfCases(name, len(old), **bootstrap(figures, seed=seed))


def judge(whole: SliceOfCases, margin: float, metric: str) -> tuple[Verdict, list[str]]:
    difference = whole.difference
    interval = f"the difference in {metric} is {difference.mean:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]"
    if not math.isfinite(difference.low):
        return "undecided", [f"{whole.cases} case has no interval"]
    if whole.old.mean == whole.new.mean == 0:
        return "undecided", [f"neither run has any {metric} on {whole.cases:,} cases: too few to tell them apart"]
    if difference.low > -margin or (difference.low == difference.high == 0):
        return "pass", [f"{interval}: a loss of more than {margin:.4f} is excluded at {LEVEL:.0%}"]
    if difference.high < 0:
        return "worse", [f"{interval}: it is worse, and a loss of {margin:.4f} or more is not excluded"]
    return "undecided", [f"{interval}: too wide to exclude a loss of {margin:.4f}"]


def coverage_of(ranks: Ranks, candidates: int) -> float:
    assert ranks.lists is not None
    return float(np.count_nonzero(np.unique(ranks.lists)) / max(1, candidates))


def overlap_of(old: Ranks, new: Ranks) -> float:
    """Mean share of the lists' items that two runs have in common."""
    assert old.lists is not None
    assert new.lists is not None
    shares = np.zeros(len(old.lists))
    for start in range(0, len(shares), _CASES):
        block = slice(start, start + _CASES)
        ours, theirs = old.lists[block], new.lists[block]
        shared = ((ours[:, :, None] == theirs[:, None, :]) & (ours[:, :, None] > 0)).any(2).sum(1)
        shares[block] = shared / np.maximum(np.maximum((ours > 0).sum(1), (theirs > 0).sum(1)), 1)
    return float(np.mean(shares))
