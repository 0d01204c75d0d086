"""Neighbours of a generated catalogue, for measurements of what they cost."""

from __future__ import annotations

import numpy as np

from palate.features.neighbour_store import NeighbourList
from palate.rankers.neighbours import NeighbourScores

KEEP, LAGS = 100, 5


def drawn_lists(items: int, sources: int) -> NeighbourScores:
    """Neighbours at the same random distances from every item, with random cosines and weights."""
    rng = np.random.default_rng(0)
    lists = []
    for number in range(sources):
        near = np.zeros((items + 1, KEEP), np.int32)
        values = np.zeros((items + 1, KEEP), np.float32)
        for place, distance in enumerate(rng.choice(np.arange(1, items), KEEP, replace=False)):
            near[1:, place] = (np.arange(items) + distance) % items + 1
        values[1:] = rng.random((items, KEEP), np.float32) * 0.9 + 0.1
        lists.append(NeighbourList(str(number), near, values, {}))
    return NeighbourScores(lists, rng.random((sources, LAGS)))
