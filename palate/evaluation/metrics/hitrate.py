"""HitRate@K; with one target a case it equals Recall@K."""

from __future__ import annotations

from palate.evaluation.metrics.base import metric
from palate.evaluation.ranks import Floats, Ranks


@metric("HitRate")
def hitrate(ranks: Ranks, k: int) -> Floats:
    """1 where at least one target is among the first ``k``, else 0.

    >>> hitrate(Ranks.of([[2, 30], [11]], num_candidates=100), 10).tolist()
    [1.0, 0.0]
    """
    return (ranks.best <= k).astype(float)
