"""Dense features made comparable: centred, projected on their principal components, each scaled to variance one.

Vectors of one encoder mostly agree: any two texts or pictures have a large cosine. What distinguishes them shows in the
cosine only when the few directions in which all agree count no more than the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from palate.errors import PalateError
from palate.features.store import Floats

# Beauty and H&M, validation: fewer lose accuracy, for texts and pictures alike, and more than 512 gain none.
COMPONENTS = 384
# A component is estimated from at least this many items; with about as many components as items, all are equally far.
_ITEMS_PER_COMPONENT = 8
# Items whose vectors are converted at a time; bounds the memory beside a memory-mapped matrix.
_BLOCK = 4096


@dataclass(frozen=True)
class Whitening:
    """What turns an encoder's vectors into ones whose cosine is compared; also those of items added later.

    Attributes:
        centre: float32 ``[width]``, the mean of the items that it was made of.
        basis: float32 ``[width, components]``, principal directions over their standard deviations.
    """

    centre: npt.NDArray[np.float32]
    basis: npt.NDArray[np.float32]

    @classmethod
    def fit(cls, vectors: Floats, known: npt.NDArray[np.bool_], components: int = COMPONENTS) -> Whitening:
        """Principal components of the rows ``known``, most varied first; fewer where there are few rows.

        Args:
            vectors: ``[rows, width]``, memory-mapped or not.
            known: bool ``[rows]``.

        Raises:
            PalateError: no row is known.
        """
        rows = np.flatnonzero(known)
        if not len(rows):
            raise PalateError("no item has this feature", "Check the feature store's coverage.")
        width = vectors.shape[1]
        total, square = np.zeros(width), np.zeros((width, width))
        for block in _blocks(vectors, rows):
            total += block.sum(0)
        centre = total / len(rows)
        for block in _blocks(vectors, rows):
            centred = block - centre
            square += centred.T @ centred
        values, directions = np.linalg.eigh(square / max(1, len(rows) - 1))
        best = np.argsort(-values, kind="stable")[: max(1, min(components, width, len(rows) // _ITEMS_PER_COMPONENT))]
        # Directions that the items do not span carry nothing; they stay near zero instead of being blown up.
        floor = max(float(values[best[0]]), 1e-12) * 1e-6
        basis = directions[:, best] / np.sqrt(np.maximum(values[best], floor))
        # The sign of a component means nothing; a fixed one makes equal features equal on any machine.
        signs = np.sign(basis[np.abs(basis).argmax(0), np.arange(basis.shape[1])])
        return cls(centre.astype(np.float32), (basis * np.where(signs == 0, 1, signs)).astype(np.float32))

    def apply(self, vectors: Floats, present: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        """Vectors of length 1, float32 ``[rows, components]``; rows that are not ``present`` are zero."""
        made = np.zeros((len(vectors), self.basis.shape[1]), np.float32)
        rows = np.flatnonzero(present)
        for start in range(0, len(rows), _BLOCK):
            some = rows[start : start + _BLOCK]
            block = (np.asarray(vectors[some], np.float32) - self.centre) @ self.basis
            length = np.linalg.norm(block, axis=1, keepdims=True)
            made[some] = np.divide(block, length, out=np.zeros_like(block), where=length > 0)
        return made


def _blocks(vectors: Floats, rows: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.float64]]:
    for start in range(0, len(rows), _BLOCK):
        yield np.asarray(vectors[rows[start : start + _BLOCK]], np.float64)
