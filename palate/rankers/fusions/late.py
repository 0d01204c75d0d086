"""Separate modalities: each has a sequence encoder of its own, and their scores are added (as in HM4SR)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from palate.rankers.items import ItemEncoder


class Late(ItemEncoder):
    """``x = [x_1, ..., x_M]``; the ranker splits it again, and the product of two such vectors adds the parts'."""

    @property
    def out_dim(self) -> int:
        return self.dim * len(self.names)

    def fuse(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(parts), dim=1)
