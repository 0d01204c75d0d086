"""The sum of the modalities' vectors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from palate.rankers.items import ItemEncoder


class Sum(ItemEncoder):
    """``x = sum_m x_m``."""

    def fuse(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(parts)).sum(0)
