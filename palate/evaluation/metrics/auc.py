"""AUC: the area under the ROC curve, over all candidates."""

from __future__ import annotations

import numpy as np

from palate.evaluation.metrics.base import metric
from palate.evaluation.ranks import Floats, Ranks


@metric("AUC", at_k=False)
def auc(ranks: Ranks, k: int) -> Floats:
    """Chance that a target stands before a candidate that is no target; ties count as lost, 0.5 with none to beat.

    >>> auc(Ranks.of([[1], [6]], num_candidates=11)).tolist()
    [1.0, 0.5]
    """
    others = ranks.num_candidates - ranks.num_targets
    lost = ranks.sum(ranks.values - ranks.order)
    return np.where(others > 0, 1 - lost / np.maximum(others * ranks.num_targets, 1), 0.5)
