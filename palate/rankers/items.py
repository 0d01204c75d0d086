"""Item vectors from ids, texts and pictures: projection, missing-modality policy, fusion, cold items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from palate.errors import PalateError

Missing = Literal["learned", "mean", "zeros"]
Fusion = Literal["sum", "gate", "concat", "late"]


class Modality(nn.Module):
    """A frozen feature matrix and its trained projection.

    Args:
        width: of the features.
        whiten: project on so many principal components, each scaled to variance one, so that the few directions in
            which all texts or all pictures agree do not drown the others; 0 only centres and scales by one number.
        missing: what stands for an absent feature: a ``learned`` vector, the ``mean`` of the present, or ``zeros``.
        dropout: on the features.
    """

    vectors: Tensor
    present: Tensor
    centre: Tensor
    basis: Tensor

    def __init__(
        self, width: int, num_items: int, dim: int, missing: Missing, dropout: float = 0.0, whiten: int = 0
    ) -> None:
        super().__init__()
        self.missing = missing
        self.whiten = min(whiten, width)
        inner = self.whiten or width
        # Not part of the weights: a frozen matrix is kept once, in the feature store, and takes no room until it comes.
        self.register_buffer("vectors", torch.zeros(0, inner), persistent=False)
        self.register_buffer("present", torch.zeros(num_items + 1, dtype=torch.bool))
        # Part of the weights: what turns a new item's features into what the projection was trained on.
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("basis", torch.zeros(width, self.whiten) if self.whiten else torch.ones(()))
        self.project = nn.Linear(inner, dim)
        # An item's vector starts as small as an id's, so that the softmax starts flat.
        nn.init.normal_(self.project.weight, std=0.02 / inner**0.5)
        nn.init.zeros_(self.project.bias)
        self.dropout = nn.Dropout(dropout)
        self.absent = nn.Parameter(torch.randn(dim) * 0.02) if missing == "learned" else None

    def fill(self, vectors: Tensor, present: Tensor, training: Tensor, keep_statistics: bool = False) -> None:
        """Take the features; the statistics come from the items of the training split that have one.

        Args:
            vectors: float ``[num_items + 1, width]``; rows where ``present`` is False are not looked at.
            present: bool ``[num_items + 1]``.
            training: bool ``[num_items + 1]``.
            keep_statistics: standardise as before; the trained projection of an earlier run understands nothing else.
        """
        known = vectors[present & training] if bool((present & training).any()) else vectors[present]
        if not len(known):
            raise PalateError("no item has this feature", "Check the feature store's coverage, or drop the modality.")
        if not keep_statistics:
            self.centre = known.mean(0)
            self.basis = _whitening(known - self.centre, self.whiten)
        self.present = present.clone()
        self.vectors = self.standardise(vectors).masked_fill(~present.unsqueeze(1), 0.0)

    def share(self, other: Modality) -> None:
        """Take another model's frozen features, which then lie in memory once for both."""
        if not torch.equal(self.basis, other.basis) or not torch.equal(self.centre, other.centre):
            raise PalateError("the two models standardise their features differently", "Take runs of one dataset.")
        self.vectors = other.vectors

    def standardise(self, vectors: Tensor) -> Tensor:
        """Features ``[n, width]`` to what the projection reads, ``[n, whiten or width]``."""
        centred = vectors - self.centre
        return centred @ self.basis if self.whiten else centred * self.basis

    def forward(self) -> Tensor:
        """``[num_items + 1, dim]``. A centred absent vector is zero, so ``mean`` projects zero: the mean."""
        if len(self.vectors) != len(self.present):
            raise PalateError("a model that was loaded has no features to learn from", "Give it some: set_features.")
        projected: Tensor = self.project(self.dropout(self.vectors))
        if self.missing == "mean":
            return projected
        absent = ~self.present.unsqueeze(1)
        if self.absent is None:
            return projected.masked_fill(absent, 0.0)
        return torch.where(absent, self.absent, projected)


def _whitening(centred: Tensor, components: int) -> Tensor:
    """``[width, components]``, principal directions over their standard deviations; a scalar for no components."""
    if not components:
        return 1 / centred.pow(2).mean().sqrt().clamp_min(1e-6)
    values, directions = torch.linalg.eigh((centred.T @ centred).double() / max(1, len(centred) - 1))
    best = torch.arange(len(values) - 1, len(values) - 1 - components, -1, device=values.device)
    # Directions that the items do not span carry nothing; their features stay near zero instead of being blown up.
    floor = values[-1].clamp_min(1e-12) * 1e-6
    basis: Tensor = directions[:, best] / values[best].clamp_min(floor).sqrt()
    return basis.to(centred.dtype)


class ItemEncoder(nn.Module):
    """One vector an item, made of its modalities.

    * An item without training interactions ("cold") has no id of its own: it shares one vector, ``unknown``. That is
      zero, so that the other modalities speak alone, until ``id_dropout`` trains it by hiding ids at random.
    * ``sum`` adds the modalities, ``gate`` weighs them an item by a learned softmax, ``concat`` mixes them linearly;
      ``late`` keeps them apart: each has an encoder of its own and their scores are added (as in HM4SR).

    Attributes:
        out_dim: width of an item's vector: ``dim``, or ``dim`` times the number of modalities for ``late``.
    """

    warm: Tensor

    def __init__(
        self,
        num_items: int,
        dim: int,
        modalities: Sequence[str],
        widths: Mapping[str, int],
        *,
        fusion: Fusion = "sum",
        missing: Missing = "learned",
        id_dropout: float = 0.0,
        feature_dropout: float = 0.0,
        whiten: int = 0,
    ) -> None:
        super().__init__()
        self.names = tuple(modalities)
        self.fusion = fusion
        self.id_dropout = id_dropout
        self.dim = dim
        self.register_buffer("warm", torch.ones(num_items + 1, dtype=torch.bool))
        if "id" in self.names:
            self.ids = nn.Embedding(num_items + 1, dim)
            self.unknown = nn.Parameter(torch.zeros(dim))
            nn.init.normal_(self.ids.weight, std=0.02)
        self.features = nn.ModuleDict(
            {
                name: Modality(widths[name], num_items, dim, missing, feature_dropout, whiten)
                for name in self.names
                if name != "id"
            }
        )
        count = len(self.names)
        self.gate = nn.Linear(count * dim, count) if fusion == "gate" and count > 1 else None
        self.mix = nn.Linear(count * dim, dim) if fusion == "concat" and count > 1 else None

    @property
    def out_dim(self) -> int:
        return self.dim * len(self.names) if self.fusion == "late" else self.dim

    def _ids(self) -> Tensor:
        known = self.warm
        if self.training and self.id_dropout > 0:
            known = known & (torch.rand(len(known), device=known.device) >= self.id_dropout)
        return torch.where(known.unsqueeze(1), self.ids.weight, self.unknown)

    def forward(self) -> Tensor:
        """``[num_items + 1, out_dim]``, the vectors of all items; row 0 (padding) means nothing."""
        parts = [self._ids() if name == "id" else self.features[name]() for name in self.names]
        if len(parts) == 1:
            return parts[0]
        if self.fusion == "late":
            return torch.cat(parts, dim=1)
        if self.mix is not None:
            mixed: Tensor = self.mix(torch.cat(parts, dim=1))
            return mixed
        if self.gate is not None:
            weights = torch.softmax(self.gate(torch.cat(parts, dim=1)), dim=1) * len(parts)
            return (torch.stack(parts, dim=2) * weights.unsqueeze(1)).sum(2)
        return torch.stack(parts).sum(0)
