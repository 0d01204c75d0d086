"""The frozen features of a modality, and what replaces them for items that have none."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from palate.errors import PalateError
from palate.features.fields import FIELDS, FieldStore
from palate.features.store import FeatureStore

Missing = Literal["learned", "mean", "zeros"]


class Feature(nn.Module):
    """The frozen features of one modality and the trained part that turns them into vectors.

    Args:
        num_items: catalogue size.
        dim: width of the vectors.
        missing: what stands for an absent feature: a ``learned`` vector, the ``mean`` of the present, or ``zeros``.
        inner: width of the features as they are stored.

    Attributes:
        vectors: the features of all items, ``[num_items + 1, inner]``. Not part of the weights: a frozen matrix is
            stored once, in the feature store, and takes no memory until it is filled in.
        present: bool ``[num_items + 1]``.
    """

    dtype: ClassVar[torch.dtype] = torch.float32
    vectors: Tensor
    present: Tensor

    def __init__(self, num_items: int, dim: int, missing: Missing, inner: int) -> None:
        super().__init__()
        self.missing = missing
        self.register_buffer("vectors", torch.zeros(0, inner, dtype=self.dtype), persistent=False)
        self.register_buffer("present", torch.zeros(num_items + 1, dtype=torch.bool))

    @abstractmethod
    def fill(self, vectors: Tensor, present: Tensor, training: Tensor, keep_statistics: bool = False) -> None:
        """Take the features; see :meth:`palate.rankers.items.Modality.fill`."""

    @abstractmethod
    def share(self, other: Feature) -> None:
        """Take another model's frozen features, which are then in memory once for both."""

    @abstractmethod
    def accepts(self, vectors: Tensor) -> bool:
        """Whether these are features of the kind and width that the trained part reads."""

    @abstractmethod
    def standardise(self, vectors: Tensor) -> Tensor:
        """Features ``[n, width]`` to what :meth:`embed` reads, ``[n, inner]``."""

    @abstractmethod
    def embed(self, standard: Tensor, present: Tensor) -> Tensor:
        """Vectors ``[n, dim]`` of standardised features ``[n, inner]``; ``missing`` stands where one is not present."""

    def forward(self) -> Tensor:
        """``[num_items + 1, dim]``."""
        self._check_filled()
        return self.embed(self.vectors, self.present)

    def _check_filled(self) -> None:
        if len(self.vectors) != len(self.present):
            raise PalateError("a model that was loaded has no features to learn from", "Give it some: set_features.")

    def rows(self, index: Tensor) -> Tensor:
        """``[n, dim]``, the rows ``index`` (int64 ``[n]``) of :meth:`forward`."""
        self._check_filled()
        return self.embed(self.vectors.index_select(0, index), self.present.index_select(0, index))

    def of(self, vectors: Tensor, present: Tensor) -> Tensor:
        """Vectors ``[n, dim]`` of items outside the catalogue, from their features as a store holds them."""
        standard = self.standardise(vectors.to(self.present.device, self.dtype))
        present = present.to(self.present.device)
        return self.embed(standard.masked_fill(~present.unsqueeze(1), 0), present)


def feature_widths(modalities: Sequence[str], stores: Mapping[str, FeatureStore]) -> dict[str, int]:
    """Width of each feature modality; an absent store is a clear error."""
    for name in modalities:
        if name != "id" and name not in stores:
            raise PalateError(f"no features for the modality '{name}'", how_to_make(name))
    return {name: _width(stores[name]) for name in modalities if name != "id"}


def _width(store: FeatureStore) -> int:
    return store.width if isinstance(store, FieldStore) else int(store.vectors.shape[1])


def how_to_make(modality: str) -> str:
    """The remedy where a modality has no features."""
    if modality == FIELDS:
        return "Make them of the catalogue: palate.features.fields.FieldStore."
    return f"Run `palate encode DATASET --{modality} ...` first."
