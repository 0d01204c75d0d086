"""Ids propagated over a frozen graph of items with like content, beside the summed modalities (FREEDOM, Zhou & Shen
2023, arXiv 2211.06924: the item-item graph is built once from the raw features and never trained)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from palate.errors import PalateError
from palate.rankers.items import ItemEncoder

_NEAREST = 10
_ROWS = 1024


class Smooth(ItemEncoder):
    """``E' = E + A E``; ``A`` has the ``_NEAREST`` warm items of largest cosine for each item, averaged over modalities,
    rows summing to one. The content's projections are added as in ``sum``."""

    nearest: Tensor
    weights: Tensor

    def build(self) -> None:
        count = _NEAREST * len(self.features)
        self.register_buffer("nearest", torch.zeros(self.num_items + 1, count, dtype=torch.long), persistent=False)
        self.register_buffer("weights", torch.zeros(self.num_items + 1, count), persistent=False)

    def set_graph(self) -> None:
        """Find the neighbours anew from the features."""
        rows, weights = [], []
        for name in self.features:
            feature = self.feature(name)
            units = nn.functional.normalize(feature.vectors.float(), dim=1)
            usable = feature.present & self.warm
            usable[0] = False
            found = [_nearest(units, usable, start) for start in range(0, len(units), _ROWS)]
            rows.append(torch.cat([one for one, _ in found]))
            weights.append(torch.cat([one for _, one in found]) * feature.present.unsqueeze(1))
        self.nearest = torch.cat(rows, dim=1)
        stacked = torch.cat(weights, dim=1)
        self.weights = stacked / stacked.sum(1, keepdim=True).clamp_min(1e-6)

    def id_vectors(self) -> Tensor:
        ids = super().id_vectors()
        if not bool(self.weights.any()):
            self.set_graph()
        return ids + nn.functional.embedding_bag(self.nearest, ids, per_sample_weights=self.weights, mode="sum")

    def fuse(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(parts)).sum(0)

    def compose(self, features: Mapping[str, tuple[Tensor, Tensor]], own: Tensor, item: int = 0) -> Tensor:
        raise PalateError(
            "fusion 'smooth' makes an item's vector of its neighbours' too", "Train with another fusion, such as sum."
        )


def _nearest(units: Tensor, usable: Tensor, start: int) -> tuple[Tensor, Tensor]:
    block = units[start : start + _ROWS]
    cosine = (block @ units.T).masked_fill(~usable, -1.0)
    cosine[torch.arange(len(block)), torch.arange(start, start + len(block))] = -1.0
    values, rows = cosine.topk(min(_NEAREST, cosine.shape[1]), dim=1)
    return rows, values.clamp_min(0.0)
