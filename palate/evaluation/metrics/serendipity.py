"""Serendipity@K: hits that a list of the most popular items does not have."""

from __future__ import annotations

import numpy as np

from palate.errors import PalateError
from palate.evaluation.metrics.base import metric
from palate.evaluation.ranks import Floats, Ranks


@metric("Serendipity")
def serendipity(ranks: Ranks, k: int) -> Floats:
    """Targets among the first ``k`` that are not among the ``k`` most popular items of training, divided by ``k``.

    Ge et al. (RecSys 2010, section 3.2): relevant items that a primitive model does not recommend; here that model is
    popularity.
    """
    if ranks.train_counts is None:
        raise PalateError("serendipity needs the training counts of items", "Give Ranks.train_counts.")
    popular = np.argsort(-ranks.train_counts[1:], kind="stable")[:k] + 1
    return ranks.sum((ranks.values <= k) & ~np.isin(ranks.items, popular)) / k
