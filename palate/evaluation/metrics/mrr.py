"""MRR@K."""

from __future__ import annotations

import numpy as np

from palate.evaluation.metrics.base import metric
from palate.evaluation.ranks import Floats, Ranks


@metric("MRR")
def mrr(ranks: Ranks, k: int) -> Floats:
    """One over the rank of the best target, 0 if it is not among the first ``k``.

    >>> mrr(Ranks.of([[4, 5], [11]], num_candidates=100), 10).tolist()
    [0.25, 0.0]
    """
    return np.where(ranks.best <= k, 1 / ranks.best, 0.0)
