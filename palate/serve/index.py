"""Finding the items with the largest products by FAISS, where there are millions of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from palate.errors import PalateError

# FAISS: how many candidates of the scan are scored exactly: at least, one of how many vectors (without which fewer of
# the true best are found in larger catalogues), and for each item of the answer.
_CANDIDATES = 1000
_ONE_OF = 1000
_FOR_EACH = 20
_TRAINING_ROWS = 100_000


class FaissIndex:
    """Approximate search by FAISS: a scan of 4-bit product codes proposes, exact products decide.

    Unlike graph indices it is built in seconds, which a hot reload needs, and does not degrade on vectors without
    clusters.

    Args:
        vectors: float32 ``[num_items + 1, dim]``; row 0 is padding and is never found.
        seed: of the training of the codes.
        candidates: how many are scored exactly; more find more of the true best, and take longer. By default 1,000, or
            a thousandth of the vectors.

    Raises:
        PalateError: FAISS is not installed, or there are too few vectors to learn codes from.
    """

    LEAST = 1_000

    def __init__(self, vectors: Tensor, seed: int = 0, candidates: int | None = None) -> None:
        faiss = self._faiss = _faiss()
        if len(vectors) <= self.LEAST:
            raise PalateError(f"{len(vectors) - 1} vectors are too few for FAISS", "Search them exactly.")
        self.candidates = candidates or max(_CANDIDATES, len(vectors) // _ONE_OF)
        rows = self._even(vectors[1:])
        pairs = rows.shape[1] // 2
        self._index = faiss.index_factory(rows.shape[1], f"PQ{pairs}x4fs,RFlat", faiss.METRIC_INNER_PRODUCT)
        coder = faiss.downcast_index(self._index.base_index)
        coder.pq.cp.seed = seed
        some = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:_TRAINING_ROWS].numpy()]
        self._index.train(some)
        self._index.add(rows)

    @staticmethod
    def _even(vectors: Tensor) -> npt.NDArray[np.float32]:
        """Two numbers a code: an odd width gets a zero, which changes no product."""
        padded = torch.nn.functional.pad(vectors.float().cpu(), (0, vectors.shape[1] % 2))
        return padded.contiguous().numpy()

    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Items int64 ``[B, k]`` and products float32 ``[B, k]``, best first; 0 and ``-inf`` where none was found."""
        some = self._faiss.IndexRefineSearchParameters(k_factor=max(self.candidates / k, _FOR_EACH))
        products, rows = self._index.search(self._even(queries), k, params=some)
        items, values = torch.from_numpy(rows) + 1, torch.from_numpy(products)
        absent = items <= 0
        return items.masked_fill(absent, 0), values.masked_fill(absent, -torch.inf)


def _faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise PalateError(
            "FAISS is not installed", 'Install it: pip install "palate[faiss]", or serve with --index exact.'
        ) from None
    return faiss
