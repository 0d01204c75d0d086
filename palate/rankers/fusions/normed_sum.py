"""A sum in which every content vector has length one, times a learned scale: content counts by direction alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from palate.rankers.items import ItemEncoder


class NormedSum(ItemEncoder):
    """``x = x_id + sum_m s_m x_m / |x_m|``: the product of two items' content parts is ``s_m^2`` times their cosine."""

    def build(self) -> None:
        # As long as an id's vector is at the start.
        self.scales = nn.ParameterDict(
            {name: nn.Parameter(torch.tensor(0.02 * self.dim**0.5)) for name in self.features}
        )

    def fuse(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.stack(
            [
                part if name == "id" else self.scales[name] * nn.functional.normalize(part, dim=1)
                for name, part in zip(self.names, parts, strict=True)
            ]
        ).sum(0)
