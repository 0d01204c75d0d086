"""Gini@K: how unevenly the places of all lists are shared out among the items."""

from __future__ import annotations

import numpy as np

from palate.errors import PalateError
from palate.evaluation.metrics.base import metric
from palate.evaluation.ranks import Floats, Ranks


@metric("Gini", of_lists=True, whole_set=True, higher_is_better=False)
def gini(ranks: Ranks, k: int) -> Floats:
    """Gini coefficient of how often each item of the catalogue is among the first ``k``: 0 where all are shown equally
    often, towards 1 where a few have all places (Gini 1912; for recommendations Fleder & Hosanagar 2009)."""
    if ranks.lists is None or ranks.train_counts is None:
        raise PalateError("gini needs the lists and the size of the catalogue", "Evaluate with the full protocol.")
    shown = np.sort(np.bincount(ranks.lists[:, :k].ravel(), minlength=len(ranks.train_counts))[1:])
    number, total = len(shown), shown.sum()
    if not total:
        return np.asarray(0.0)
    return np.asarray(((2 * np.arange(1, number + 1) - number - 1) * shown).sum() / (number * total))
