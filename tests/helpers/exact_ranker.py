"""A SASRec whose scores are exact numbers, many of them equal: what tests of ranking in parts compare to the bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from palate.data.dataset import Cases, Dataset
from palate.data.sequences import Sequences
from palate.features.neighbour_store import NeighbourList
from palate.features.whitening import Whitening
from palate.rankers.neighbours import NeighbourScores
from palate.rankers.sasrec import SASRec
from palate.recommender import Recommender
from palate.topk import merged

# Of a list by words and one by an encoder's vectors, and the rest of what neighbours come from.
SOURCES = ("co-occurrence", "lexical", "text", "image")


class Exact(SASRec):
    """Queries in steps of a quarter: products are exact then, whatever their shape, and many are equal."""

    def encode(self, *inputs: Any) -> Tensor:
        return (4 * super().encode(*inputs)).round() / 4


def sasrec(dataset: Dataset, similarity: str = "dot", training: bool = False) -> SASRec:
    torch.manual_seed(0)
    config = SASRec.Config(dim=16, max_length=8, layers=1, heads=1, repeat_bias=True, similarity=similarity)
    model = (Exact if similarity == "dot" else SASRec)(config, dataset.num_items, {})
    torch.nn.init.normal_(model.items.ids.weight)
    torch.nn.init.normal_(model.items.unknown)
    if similarity == "dot":
        model.items.ids.weight.data.round_()
        model.items.unknown.data.round_()
        model.items.warm[1::5] = False  # these have one vector, so equal scores
    assert model.repeat is not None
    model.repeat.data = torch.tensor([0.3, 0.2, 0.1, 0, 0, -0.1, -0.2, -0.3]).mul(4).round() / 4
    model.popularity = torch.from_numpy(dataset.train_counts).float()
    return model.train(training)


def with_newcomers(cases: Cases) -> Cases:
    """Every fifth user has no history."""
    lists = [[] if row % 5 == 0 else items for row, items in enumerate(cases.histories.to_lists())]
    return Cases(cases.users, Sequences.from_lists(lists), cases.targets)


def compare_recommendations(whole: Recommender, shards: Sequence[Recommender], histories: Sequences) -> None:
    """The best of the parts, merged, are those of the whole to the bit: with and without the history and a filter."""
    allowed: Tensor | None
    for allowed in (None, torch.arange(whole.num_items + 1) % 3 == 1):
        for exclude_seen in (True, False):
            expected = whole.recommend(histories, 25, exclude_seen, allowed)
            parts = [shard.recommend(histories, 25, exclude_seen, allowed) for shard in shards]
            for mine, theirs in zip(merged(parts, 25), expected, strict=True):
                assert torch.equal(mine, theirs)


def neighbours(num_items: int, sources: Sequence[str] = SOURCES, keep: int = 6, lags: int = 3) -> NeighbourScores:
    """Random neighbours of every item but the last, which has none; cosines and weights are no exact numbers."""
    rng = np.random.default_rng(len(sources))
    lists = []
    for source in sources:
        items, values = np.zeros((num_items + 1, keep), np.int32), np.zeros((num_items + 1, keep), np.float32)
        for item in range(1, num_items):
            others = rng.permutation(np.delete(np.arange(1, num_items + 1), item - 1))[: rng.integers(1, keep + 1)]
            items[item, : len(others)] = others
            values[item, : len(others)] = np.sort(rng.uniform(0.1, 1, len(others)))[::-1]
        dense = source in ("text", "image")
        white = Whitening(np.zeros(3, np.float32), np.eye(3, dtype=np.float32)) if dense else None
        lists.append(NeighbourList.of(source, items, values, white))
    weights = rng.uniform(0.5, 3, (len(lists), lags))
    weights[0, 1] = 0
    return NeighbourScores(lists, weights)


def with_neighbours(model: SASRec) -> SASRec:
    """The model, whose scores neighbours by all sources add to."""
    model.neighbours = neighbours(model.num_items)
    return model
