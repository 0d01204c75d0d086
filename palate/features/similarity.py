"""How alike two items are: the cosine of their features, averaged over the modalities that both have."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from palate.errors import PalateError
from palate.features.store import FeatureStore

_CELLS = 2**21  # numbers held at once while pairs are compared: 8 MiB


class Similarity:
    """Fused cosine between items of one catalogue.

    Modalities of different encoders share no space, so it is their cosines that are averaged, not their vectors; a
    missing picture means that the texts decide alone. The stores' memory-mapped vectors are used where they are.

    Raises:
        PalateError: no store, or stores of different catalogues.
    """

    def __init__(self, stores: Iterable[FeatureStore]) -> None:
        found = list(stores)
        if not found:
            raise PalateError("items are compared by their features, and there are none", "Give a feature store.")
        sizes = {store.modality: len(store.present) - 1 for store in found}
        if len(set(sizes.values())) > 1:
            raise PalateError(f"the feature stores differ in their number of items: {sizes}", "Encode them again.")
        self.num_items = len(found[0].present) - 1
        self._vectors = [_tensor(store.vectors) for store in found]
        # 1 / length, and 0 for an item that has no vector: what is missing drops out of every product.
        self._inverse = [_inverse_lengths(v, _tensor(s.present)) for v, s in zip(self._vectors, found, strict=True)]

    def to(self, device: torch.device | str) -> Similarity:
        """Move the vectors to a device (a copy there)."""
        self._vectors = [vectors.to(device) for vectors in self._vectors]
        self._inverse = [inverse.to(device) for inverse in self._inverse]
        return self

    @property
    def device(self) -> torch.device:
        return self._inverse[0].device

    @property
    def known(self) -> Tensor:
        """bool ``[num_items + 1]``: which items have a feature at all."""
        return torch.stack(self._inverse).gt(0).any(0)

    def of(self, first: Tensor, second: Tensor) -> Tensor:
        """float32 ``[P, N]`` in -1 to 1, nan where two items have no modality in common.

        Args:
            first: int64 ``[P]``, item indices.
            second: int64 ``[P, N]``, each row compared with its own ``first``.
        """
        widest = max(vectors.shape[1] for vectors in self._vectors)
        step = max(1, _CELLS // (widest * max(1, second.shape[1])))
        parts = [self._block(f, s) for f, s in zip(torch.split(first, step), torch.split(second, step), strict=True)]
        return torch.cat(parts) if parts else torch.zeros(second.shape, device=self.device)

    def _block(self, first: Tensor, second: Tensor) -> Tensor:
        total = torch.zeros(second.shape, device=self.device)
        shared = torch.zeros_like(total)
        for vectors, inverse in zip(self._vectors, self._inverse, strict=True):
            left = vectors.index_select(0, first).float().unsqueeze(2)
            right = vectors.index_select(0, second.reshape(-1)).float().view(*second.shape, -1)
            scale = inverse[first].unsqueeze(1) * inverse[second]
            total += torch.bmm(right, left).squeeze(2) * scale
            shared += scale > 0
        return (total / shared).clamp(-1, 1)  # 0 / 0 is nan: nothing in common

    def nearest(self, count: int) -> tuple[Tensor, Tensor]:
        """The ``count`` nearest items of every item, itself excluded, nearest first.

        Blocks of the catalogue are compared with blocks, so that memory stays small whatever its size.

        Returns:
            Cosines, float32 ``[num_items + 1, count]``, and item indices, int64 of that shape; -inf and 0 where an
            item has fewer others that it can be compared with.

        Raises:
            PalateError: ``count`` is not below the number of items that have a feature.
        """
        items = self.known.nonzero().squeeze(1)
        if count >= len(items):
            raise PalateError(
                f"{count} nearest neighbours are wanted, and {len(items)} items have features",
                f"Set neighbours below {len(items)}." if len(items) > 1 else "Encode more items.",
            )
        scores = torch.full((self.num_items + 1, count), -torch.inf, device=self.device)
        places = torch.zeros((self.num_items + 1, count), dtype=torch.int64, device=self.device)
        for rows in torch.split(items, 512):
            best, where = scores[rows], places[rows]
            for columns in torch.split(items, 4096):
                cosines = self._table(rows, columns)
                cosines.masked_fill_(rows.unsqueeze(1) == columns, -torch.inf)
                both = torch.cat([best, cosines], dim=1)
                best, chosen = both.topk(count, dim=1)
                where = torch.cat([where, columns.expand(len(rows), -1)], dim=1).gather(1, chosen)
            scores[rows], places[rows] = best, where.masked_fill(best == -torch.inf, 0)
        return scores, places

    def _table(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Cosines ``[rows, columns]``, -inf where two items have no modality in common."""
        total = torch.zeros(len(rows), len(columns), device=self.device)
        shared = torch.zeros_like(total)
        for vectors, inverse in zip(self._vectors, self._inverse, strict=True):
            left = vectors.index_select(0, rows).float() * inverse[rows].unsqueeze(1)
            right = vectors.index_select(0, columns).float() * inverse[columns].unsqueeze(1)
            total += left @ right.T
            shared += inverse[rows].gt(0).unsqueeze(1) & inverse[columns].gt(0)
        return (total / shared).clamp(-1, 1).masked_fill(shared == 0, -torch.inf)


def _tensor(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Tensor:
    """The array's own memory as a tensor; nothing here ever writes to it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(np.asarray(array))


def _inverse_lengths(vectors: Tensor, present: Tensor) -> Tensor:
    lengths = torch.cat([block.float().norm(dim=1) for block in torch.split(vectors, 4096)])
    return torch.where(present & (lengths > 0), 1 / lengths, 0.0)
