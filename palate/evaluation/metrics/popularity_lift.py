"""Popularity lift@K: do lists show more popular items than people take?"""

from __future__ import annotations

import numpy as np

from palate.errors import PalateError
from palate.evaluation.metrics.base import metric
from palate.evaluation.ranks import Floats, Ranks


@metric("Popularity lift", of_lists=True, whole_set=True, needs=("histories",), higher_is_better=False)
def popularity_lift(ranks: Ranks, k: int) -> Floats:
    """Mean popularity of the first ``k`` items over that of the items of histories, minus 1: above 0, lists favour
    what is popular more than their readers do.

    Abdollahpouri et al. (RecSys 2020, eq. 1 and 2); popularity is the number of training interactions, and each user
    counts once. Users without a history, or without a list, are left out.
    """
    counts, histories = ranks.train_counts, ranks.histories
    if ranks.lists is None or counts is None or histories is None:
        raise PalateError("popularity lift needs lists, histories and counts", "Evaluate with the full protocol.")
    items = ranks.lists[:, :k]
    shown = counts[items].sum(1, where=items > 0) / np.maximum((items > 0).sum(1), 1)
    lengths = histories.lengths
    of_user = np.repeat(np.arange(len(lengths)), lengths)
    taken = np.bincount(of_user, counts[histories.values], len(lengths)) / np.maximum(lengths, 1)
    both = (lengths > 0) & (items > 0).any(1)
    before = taken[both].mean() if both.any() else 0.0
    return np.asarray(shown[both].mean() / before - 1 if before > 0 else 0.0)
