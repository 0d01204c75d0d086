"""Novelty@K: how little known the recommended items are."""

from __future__ import annotations

import numpy as np

from palate.errors import PalateError
from palate.evaluation.metrics.base import metric
from palate.evaluation.ranks import Floats, Ranks


@metric("Novelty", of_lists=True)
def novelty(ranks: Ranks, k: int) -> Floats:
    """Mean self-information of the first ``k`` items in bits: ``-log2 p(item)`` (Zhou et al., PNAS 2010, eq. 3).

    ``p`` is the item's share of the training interactions, with one added to every item's count so that an item
    without any has a finite, and the highest, novelty. 0 for a list with nothing in it.
    """
    if ranks.lists is None or ranks.train_counts is None:
        raise PalateError("novelty needs the lists and the training counts", "Evaluate with the full protocol.")
    counts = ranks.train_counts + 1
    information = -np.log2(counts / counts[1:].sum())
    shown = ranks.lists[:, :k]
    real = shown > 0
    total: Floats = np.where(real, information[shown], 0.0).sum(axis=1)
    length: Floats = np.maximum(real.sum(axis=1), 1).astype(np.float64)
    return total / length
