"""Miscalibration@K: how far the groups of the recommended items are from those of the history."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from palate.data.sequences import Sequences
from palate.errors import PalateError
from palate.evaluation.metrics.base import metric
from palate.evaluation.ranks import Floats, Ints, Ranks

_SMOOTHING = 0.01


@metric("Miscalibration", of_lists=True, needs=("histories", "groups"), higher_is_better=False)
def miscalibration(ranks: Ranks, k: int) -> Floats:
    """Kullback-Leibler divergence of the groups (categories, say) of the first ``k`` items from those of the history,
    in nats: 0 where both have the same shares.

    Steck (RecSys 2018, eq. 5 to 7) with equal weights; the list's shares are smoothed by 0.01 of the history's. An item
    of several groups counts for each in equal parts; items without a group are left out. A case whose history or list
    has no group counts 0.
    """
    groups = None if ranks.item_facts is None else ranks.item_facts.groups
    if ranks.lists is None or ranks.histories is None or groups is None:
        raise PalateError("miscalibration needs lists, histories and groups", "Evaluate with the full protocol.")
    cases, lists = len(ranks), ranks.lists[:, :k]
    rows, columns = np.nonzero(lists)
    p_keys, p = _shares(ranks.histories.values, np.repeat(np.arange(cases), ranks.histories.lengths), groups, cases)
    q_keys, q_values = _shares(lists[rows, columns], rows, groups, cases)
    places = np.searchsorted(q_keys, p_keys).clip(0, max(len(q_keys) - 1, 0))
    q = np.where(q_keys[places] == p_keys, q_values[places], 0.0) if len(q_keys) else np.zeros(len(p))
    of_case = p_keys // _width(groups)
    divergence = np.bincount(of_case, p * np.log(p / ((1 - _SMOOTHING) * q + _SMOOTHING * p)), cases)
    without_list = np.bincount(q_keys // _width(groups), minlength=cases) == 0
    return np.where(without_list, 0.0, divergence)


def _width(groups: Sequences) -> int:
    return int(groups.values.max(initial=0)) + 1


def _shares(items: npt.ArrayLike, cases: Ints, groups: Sequences, number: int) -> tuple[Ints, Floats]:
    """Shares of groups in each case: keys ``case * groups + group``, ascending, and values that sum to 1 in a case."""
    rows = np.asarray(items, np.int64)
    counts = groups.lengths[rows]
    of_case = np.repeat(cases, counts)
    weights = np.repeat(1 / np.maximum(counts, 1), counts)
    keys, inverse = np.unique(of_case * _width(groups) + groups.take(rows).values, return_inverse=True)
    sums = np.bincount(inverse, weights, len(keys))
    totals = np.bincount(keys // _width(groups), sums, number)
    return keys, sums / totals[keys // _width(groups)]
