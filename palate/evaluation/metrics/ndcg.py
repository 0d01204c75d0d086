"""NDCG@K with binary gains."""

from __future__ import annotations

import numpy as np

from palate.evaluation.metrics.base import metric
from palate.evaluation.ranks import Floats, Ranks


@metric("NDCG")
def ndcg(ranks: Ranks, k: int) -> Floats:
    """Discounted gain ``sum 1 / log2(rank + 1)`` of the targets among the first ``k``, over that of the ideal list.

    The ideal list starts with the targets, so it holds ``min(targets, k)`` of them (Järvelin and Kekäläinen, 2002).

    >>> ndcg(Ranks.of([[1], [3]], num_candidates=100), 10).tolist()
    [1.0, 0.5]
    """
    gains = np.where(ranks.values <= k, 1 / np.log2(ranks.values + 1), 0.0)
    ideal: Floats = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, k + 2)))])
    return ranks.sum(gains) / ideal[np.minimum(ranks.num_targets, k)]
