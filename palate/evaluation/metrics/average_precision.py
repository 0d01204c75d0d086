"""MAP@K."""

from __future__ import annotations

import numpy as np

from palate.evaluation.metrics.base import metric
from palate.evaluation.ranks import Floats, Ranks


@metric("MAP")
def average_precision(ranks: Ranks, k: int) -> Floats:
    """Precision at the place of each target among the first ``k``, added up and divided by ``min(targets, k)``.

    The divisor is what a perfect list of ``k`` reaches, so that 1 is possible. Others divide by the number of all
    targets (TREC) or of the targets found (torchmetrics); with one target a case all three are the same.

    >>> average_precision(Ranks.of([[1, 4]], num_candidates=100), 10).tolist()
    [0.75]
    """
    precision = np.where(ranks.values <= k, ranks.order / ranks.values, 0.0)
    return ranks.sum(precision) / np.minimum(ranks.num_targets, k)
