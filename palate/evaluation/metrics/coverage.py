"""Coverage@K: how much of the catalogue the lists show."""

from __future__ import annotations

import numpy as np

from palate.errors import PalateError
from palate.evaluation.metrics.base import metric
from palate.evaluation.ranks import Floats, Ranks


@metric("Coverage", of_lists=True, whole_set=True)
def coverage(ranks: Ranks, k: int) -> Floats:
    """Share of all items that appear in at least one list of ``k``."""
    if ranks.lists is None or ranks.train_counts is None:
        raise PalateError("coverage needs the lists and the size of the catalogue", "Evaluate with the full protocol.")
    shown = np.unique(ranks.lists[:, :k])
    return np.asarray(np.count_nonzero(shown) / (len(ranks.train_counts) - 1))
