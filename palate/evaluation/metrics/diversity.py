"""Diversity@K: how different the recommended items are from each other."""

from __future__ import annotations

import numpy as np

from palate.errors import PalateError
from palate.evaluation.metrics.base import metric
from palate.evaluation.ranks import Floats, Ranks

_CASES = 512  # whose vectors are gathered at a time


@metric("Diversity", of_lists=True, needs=("vectors",))
def diversity(ranks: Ranks, k: int) -> Floats:
    """Mean of ``1 - cosine`` over all pairs of the first ``k`` items, from 0 (all alike) to 2.

    The intra-list dissimilarity of Ziegler et al. (WWW 2005, eq. 5, turned round), by feature vectors. Items without a
    vector are left out; a list with fewer than two others counts 0.
    """
    facts = ranks.item_facts
    if ranks.lists is None or facts is None or facts.vectors is None or facts.present is None:
        raise PalateError("diversity needs lists and vectors of items", "Evaluate with the full protocol.")
    found = np.zeros(len(ranks))
    for start in range(0, len(ranks), _CASES):
        items = ranks.lists[start : start + _CASES, :k]
        known = (items > 0) & facts.present[items]
        vectors = np.where(known[:, :, None], facts.vectors[items].astype(np.float64), 0.0)
        lengths = np.linalg.norm(vectors, axis=2, keepdims=True)
        vectors /= np.where(lengths > 0, lengths, 1)
        count = known.sum(1)
        pairs = count * (count - 1) / 2
        # All inner products of different items: half of the squared sum without those of each item with itself.
        alike = ((vectors.sum(1) ** 2).sum(1) - (vectors**2).sum((1, 2))) / 2
        found[start : start + _CASES] = np.where(pairs > 0, 1 - alike / np.maximum(pairs, 1), 0)
    return found
