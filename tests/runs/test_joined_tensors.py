"""Several workers agree: what each has is joined, summed, or the first one's for all."""

from __future__ import annotations

import torch
from torch import Tensor

from palate.runs.workers import Workers


def test_tensors_of_several_workers() -> None:
    mine = torch.tensor([[1.0, 2.0], [3.0, 4.0]])

    def gather(values: Tensor) -> Tensor:
        return torch.cat([values, 10 * values])  # the other worker has ten times as much

    two = Workers(index=0, count=2, gather=gather)
    assert torch.equal(two.total(mine), 11 * mine)
    assert torch.equal(two.first(mine), mine)
    assert two.main
    assert Workers(index=1, count=2).share([4, 5, 6, 7, 8]) == [5, 7]
    assert not Workers(index=1, count=2).main
    alone = Workers()
    assert torch.equal(alone.total(mine), mine)
    assert torch.equal(alone.first(mine), mine)
    assert alone.share([4, 5]) == [4, 5]
