"""Recall@K."""

from __future__ import annotations

from palate.evaluation.metrics.base import metric
from palate.evaluation.ranks import Floats, Ranks


@metric("Recall")
def recall(ranks: Ranks, k: int) -> Floats:
    """Share of the targets that are among the first ``k``.

    >>> recall(Ranks.of([[2, 30]], num_candidates=100), 10).tolist()
    [0.5]
    """
    return ranks.sum(ranks.values <= k) / ranks.num_targets
