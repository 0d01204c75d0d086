"""Item vectors from catalogue fields: a learned vector for each value, added up."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from palate.errors import PalateError
from palate.rankers.feature import Feature, Missing


class FieldBags(Feature):
    """Embedding bags: ``x_i = sum_v e_v / sqrt(n_i)`` over the ``n_i`` values ``v`` that an item has in all its fields
    (the sum of a factorisation machine's features, as in LightFM, Kula 2015, at one size).

    Args:
        width: number of values in the vocabulary; their codes run from 1, and 0 fills up.
        missing: what stands for an item without any known value; ``mean``: the mean of the others of the training.
        dropout: share of the values that a training step leaves out.
    """

    dtype = torch.long
    usage: Tensor

    def __init__(self, width: int, num_items: int, dim: int, missing: Missing, dropout: float = 0.0) -> None:
        super().__init__(num_items, dim, missing, 1)
        self.values = nn.Embedding(width + 1, dim, padding_idx=0)
        nn.init.normal_(self.values.weight, std=0.02)
        with torch.no_grad():
            self.values.weight[0] = 0.0
        # How much of each value is in the mean bag of the training items.
        self.register_buffer("usage", torch.zeros(width + 1))
        self.dropout = nn.Dropout(dropout)
        self.absent = nn.Parameter(torch.randn(dim) * 0.02) if missing == "learned" else None

    def fill(self, vectors: Tensor, present: Tensor, training: Tensor, keep_statistics: bool = False) -> None:
        """Take codes ``[num_items + 1, slots]``, with 0 for no value.

        Args:
            keep_statistics: ignored; the mean bag is of this training.
        """
        known = present & training if bool((present & training).any()) else present
        if not bool(known.any()):
            raise PalateError("no item has any of the fields", "Name others in ranker.fields, or drop the modality.")
        self.present = present.clone()
        self.vectors = vectors.masked_fill(~present.unsqueeze(1), 0)
        codes = self.vectors[known]
        usage = torch.zeros_like(self.usage)
        usage.index_add_(0, codes.flatten(), _weights(codes).flatten())
        self.usage = usage / len(codes)

    def share(self, other: Feature) -> None:
        """Take another model's codes, which are then in memory once for both."""
        assert isinstance(other, FieldBags)
        if not torch.equal(self.usage, other.usage):
            raise PalateError("the two models know other values of the fields", "Take runs of one dataset.")
        self.vectors = other.vectors

    def accepts(self, vectors: Tensor) -> bool:
        return vectors.ndim == 2 and (not vectors.numel() or 0 <= int(vectors.max()) < len(self.usage))

    def standardise(self, vectors: Tensor) -> Tensor:
        """Codes as they are."""
        return vectors

    def embed(self, standard: Tensor, present: Tensor) -> Tensor:
        """``[n, dim]`` of codes ``[n, slots]``."""
        bags = nn.functional.embedding_bag(
            standard,
            self.values.weight,
            per_sample_weights=self.dropout(_weights(standard)),
            mode="sum",
            padding_idx=0,
        )
        absent = ~present.unsqueeze(1)
        if self.absent is not None:
            return torch.where(absent, self.absent, bags)
        if self.missing == "mean":
            return torch.where(absent, self.usage @ self.values.weight, bags)
        return bags.masked_fill(absent, 0.0)


def _weights(codes: Tensor) -> Tensor:
    real = codes > 0
    return real / real.sum(1, keepdim=True).clamp_min(1).sqrt()
