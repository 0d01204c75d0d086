"""A SASRec whose scores are exact numbers, many of them equal: what tests of ranking in parts compare to the bit."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from palate.data.dataset import Cases, Dataset
from palate.data.sequences import Sequences
from palate.rankers.sasrec import SASRec


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
