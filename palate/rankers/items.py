"""Item vectors from ids, texts, pictures and fields: projection, missing-modality policy, cold items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from palate.errors import PalateError
from palate.features.fields import FIELDS
from palate.rankers.feature import Feature, Missing
from palate.rankers.field_bags import FieldBags
from palate.rankers.sharded_ids import make_id_table


class Modality(Feature):
    """A frozen feature matrix and its trained projection.

    Args:
        width: of the features.
        whiten: project on at most this many principal components, each scaled to variance one, so that the few
            directions in which all texts or all pictures agree do not drown the others; 0 only centres and scales by
            one number.
        missing: what stands for an absent feature: a ``learned`` vector, the ``mean`` of the present, or ``zeros``.
        dropout: on the features.
    """

    centre: Tensor
    basis: Tensor

    def __init__(
        self, width: int, num_items: int, dim: int, missing: Missing, dropout: float = 0.0, whiten: int = 0
    ) -> None:
        inner = min(whiten, width) or width
        super().__init__(num_items, dim, missing, inner)
        self.whiten = min(whiten, width)
        # Part of the weights: what turns a new item's features into what the projection was trained on.
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("basis", torch.zeros(width, self.whiten) if self.whiten else torch.ones(()))
        self.project: nn.Module = small_linear(inner, dim)
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
            self.basis = whitening(known - self.centre, self.whiten)
        self.present = present.clone()
        self.vectors = self.standardise(vectors).masked_fill(~present.unsqueeze(1), 0.0)

    def share(self, other: Feature) -> None:
        """Take another model's frozen features, which are then in memory once for both."""
        assert isinstance(other, Modality)
        if not torch.equal(self.basis, other.basis) or not torch.equal(self.centre, other.centre):
            raise PalateError("the two models standardise their features differently", "Take runs of one dataset.")
        self.vectors = other.vectors

    def accepts(self, vectors: Tensor) -> bool:
        return vectors.shape[1:] == self.centre.shape

    def standardise(self, vectors: Tensor) -> Tensor:
        """Features ``[n, width]`` to what the projection reads, ``[n, whiten or width]``."""
        centred = vectors - self.centre
        return centred @ self.basis if self.whiten else centred * self.basis

    def embed(self, standard: Tensor, present: Tensor) -> Tensor:
        """Projected features ``[n, dim]``. A centred absent vector is zero, so ``mean`` projects zero: the mean."""
        projected: Tensor = self.project(self.dropout(standard))
        if self.missing == "mean":
            return projected
        absent = ~present.unsqueeze(1)
        if self.absent is None:
            return projected.masked_fill(absent, 0.0)
        return torch.where(absent, self.absent, projected)


def small_linear(inner: int, dim: int) -> nn.Linear:
    """A projection of features of variance one whose output starts as small as an id's, so that the softmax starts
    flat."""
    linear = nn.Linear(inner, dim)
    nn.init.normal_(linear.weight, std=0.02 / inner**0.5)
    nn.init.zeros_(linear.bias)
    return linear


def whitening(centred: Tensor, components: int) -> Tensor:
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
    """One vector for each item, made of its modalities. How they meet is a fusion: a subclass, by name in
    :data:`palate.rankers.fusions.FUSIONS`.

    An item without training interactions ("cold") has no id of its own: it shares one vector, ``unknown``. That is
    zero, so that the other modalities speak alone, until ``id_dropout`` trains it by hiding ids at random.

    A fusion overrides :meth:`fuse`, and, where it learns something itself, :meth:`build`. What it keeps for each single
    item beyond the id makes a model that takes no new items, unless :meth:`compose` can do without.

    :meth:`rows` makes some rows of the matrix in the same way: a training step with drawn negatives reads few of many
    items. A fusion that overrides :meth:`forward` or :meth:`id_vectors` is always read as a whole.

    Attributes:
        names: the modalities, in order.
        dim: width of a modality's vector, and of the sequence encoder.
        features: by name, every modality but ``id``.
    """

    warm: Tensor

    def __init__(
        self,
        num_items: int,
        dim: int,
        modalities: Sequence[str],
        widths: Mapping[str, int],
        *,
        missing: Missing = "learned",
        id_dropout: float = 0.0,
        feature_dropout: float = 0.0,
        whiten: int = 0,
    ) -> None:
        super().__init__()
        self.names = tuple(modalities)
        self.id_dropout = id_dropout
        self.dim = dim
        self.num_items = num_items
        self.missing: Missing = missing
        self.feature_dropout = feature_dropout
        self.whiten = whiten
        self.register_buffer("warm", torch.ones(num_items + 1, dtype=torch.bool))
        if "id" in self.names:
            self.ids = make_id_table(num_items + 1, self.id_width)
            self.unknown = nn.Parameter(torch.zeros(self.id_width))
        self.features = nn.ModuleDict({name: self.make(name, widths[name]) for name in self.names if name != "id"})
        self.build()

    # -- what a fusion may override ------------------------------------------------------------------------------

    def build(self) -> None:
        """Make the parameters that the fusion has itself; called once, at the end of construction."""

    def fuse(self, parts: Sequence[Tensor]) -> Tensor:
        """``[n, out_dim]`` from the vectors ``[n, dim]`` of at least two modalities, in the order of ``names``."""
        raise NotImplementedError

    def initialise(self) -> None:
        """Called once when the features have come, before training; not when a trained model gets them back."""

    @property
    def out_dim(self) -> int:
        """Width of an item's vector: a multiple of ``dim``, for each of which the ranker makes a sequence encoder."""
        return self.dim

    @property
    def id_width(self) -> int:
        """Width of an id's vector."""
        return self.dim

    def make(self, name: str, width: int) -> Feature:
        """The trained part of a modality."""
        if name == FIELDS:
            return FieldBags(width, self.num_items, self.dim, self.missing, self.feature_dropout)
        return Modality(width, self.num_items, self.dim, self.missing, self.feature_dropout, self.whiten)

    # -- vectors -------------------------------------------------------------------------------------------------

    def feature(self, name: str) -> Feature:
        """The modality of this name."""
        found = self.features[name]
        assert isinstance(found, Feature)
        return found

    def id_vectors(self) -> Tensor:
        """``[num_items + 1, id_width]``."""
        return self._known_or_unknown(self.warm, self.ids.weight)

    def _known_or_unknown(self, known: Tensor, vectors: Tensor) -> Tensor:
        if self.training and self.id_dropout > 0:
            known = known & (torch.rand(len(known), device=known.device) >= self.id_dropout)
        return torch.where(known.unsqueeze(1), vectors, self.unknown)

    def forward(self) -> Tensor:
        """``[num_items + 1, out_dim]``, the vectors of all items; row 0 (padding) means nothing."""
        return self._fuse([self.id_vectors() if name == "id" else self.features[name]() for name in self.names])

    def rows(self, index: Tensor, ids: Tensor | None = None) -> Tensor:
        """``[n, out_dim]``, the vectors of the items ``index`` (int64 ``[n]``): rows of :meth:`forward`, whose cost and
        gradients follow ``n`` and not the catalogue.

        In training an item is hidden or dropped as a whole: an index that holds it twice makes two draws.

        Args:
            ids: their id vectors ``[n, id_width]``, if they have been read already.
        """
        return self._fuse([self._part(name, index, ids) for name in self.names])

    def _part(self, name: str, index: Tensor, ids: Tensor | None) -> Tensor:
        if name != "id":
            return self.feature(name).rows(index)
        return self._known_or_unknown(self.warm.index_select(0, index), self.ids(index) if ids is None else ids)

    def compose(self, features: Mapping[str, tuple[Tensor, Tensor]], own: Tensor, item: int = 0) -> Tensor:
        """Vectors ``[n, out_dim]`` of items that are described, not looked up: new ones, or one with parts left out.

        Args:
            features: by modality, the features ``[n, ...]`` as a store holds them, and bool ``[n]``: which are present.
            own: bool ``[n]``, which rows have the id of ``item``; the others are cold.
        """
        parts = []
        for name in self.names:
            if name == "id":
                known = own.to(self.warm.device).unsqueeze(1)
                parts.append(torch.where(known, self.ids.weight[item], self.unknown))
            else:
                parts.append(self.feature(name).of(*features[name]))
        return self._fuse(parts)

    def _fuse(self, parts: list[Tensor]) -> Tensor:
        return parts[0] if len(parts) == 1 else self.fuse(parts)
