"""A linear mixture of all modalities' vectors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from palate.rankers.items import ItemEncoder


class Concat(ItemEncoder):
    """``x = W [x_1, ..., x_M] + b``."""

    def build(self) -> None:
        count = len(self.names)
        self.mix = nn.Linear(count * self.dim, self.dim) if count > 1 else None

    def fuse(self, parts: Sequence[Tensor]) -> Tensor:
        assert self.mix is not None
        mixed: Tensor = self.mix(torch.cat(list(parts), dim=1))
        return mixed
