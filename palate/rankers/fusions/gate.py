"""A sum that weighs the modalities item by item, by a learned softmax."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from palate.rankers.items import ItemEncoder


class Gate(ItemEncoder):
    """``x = M sum_m w_m x_m`` with ``w = softmax(W [x_1, ..., x_M] + b)``, of ``M`` modalities."""

    def build(self) -> None:
        count = len(self.names)
        self.gate = nn.Linear(count * self.dim, count) if count > 1 else None

    def fuse(self, parts: Sequence[Tensor]) -> Tensor:
        assert self.gate is not None
        weights = torch.softmax(self.gate(torch.cat(list(parts), dim=1)), dim=1) * len(parts)
        return (torch.stack(list(parts), dim=2) * weights.unsqueeze(1)).sum(2)
