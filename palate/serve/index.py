"""Finding the items with the largest products: exactly, or by FAISS where there are millions of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from palate.errors import PalateError
from palate.recommender import best_items

# Catalogues above this are searched in two steps, see :func:`top`.
_LARGE = 65_536
_BLOCK = 1024
# FAISS: how many candidates of the scan are scored exactly, at least, and for each item of the answer.
_CANDIDATES = 1000
_FOR_EACH = 20
_TRAINING_ROWS = 100_000


def top(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` best columns of every row, as :func:`palate.recommender.best_items` gives them, faster on long rows.

    A row is cut into blocks. Its ``k`` best columns are in the ``k`` blocks with the largest maxima (were one
    elsewhere, each of those ``k`` blocks would hold a better one), and a maximum costs far less than a selection.
    """
    width = scores.shape[1]
    if width < _LARGE or k * _BLOCK * 2 > width:
        return best_items(scores, k)
    whole = width // _BLOCK * _BLOCK
    maxima = scores[:, :whole].view(len(scores), -1, _BLOCK).amax(2)
    blocks = best_items(maxima, k)[0].sort(1).values
    columns = (blocks.unsqueeze(2) * _BLOCK + torch.arange(_BLOCK, device=scores.device)).flatten(1)
    rest = torch.arange(whole, width, device=scores.device).expand(len(scores), -1)
    columns = torch.cat([columns, rest], dim=1)
    # Where fewer blocks than k hold anything, block 0 stands in for the rest: its copies count for nothing.
    chosen = scores.gather(1, columns)
    copies = (blocks[:, 1:] == blocks[:, :-1]).repeat_interleave(_BLOCK, 1)
    chosen[:, _BLOCK : k * _BLOCK].masked_fill_(copies, -torch.inf)
    places, values = best_items(chosen, k)
    items = columns.gather(1, places).masked_fill(values == -torch.inf, 0)
    return items, values


class FaissIndex:
    """Approximate search by FAISS: a scan of 4-bit product codes proposes, exact products decide.

    Unlike graph indices it is built in seconds, which a hot reload needs, and does not degrade on vectors without
    clusters.

    Args:
        vectors: float32 ``[num_items + 1, dim]``; row 0 is padding and is never found.
        seed: of the training of the codes.
        candidates: how many are scored exactly; more find more of the true best, and take longer.

    Raises:
        PalateError: FAISS is not installed, or there are too few vectors to learn codes from.
    """

    LEAST = 1_000

    def __init__(self, vectors: Tensor, seed: int = 0, candidates: int = _CANDIDATES) -> None:
        faiss = self._faiss = _faiss()
        if len(vectors) <= self.LEAST:
            raise PalateError(f"{len(vectors) - 1} vectors are too few for FAISS", "Search them exactly.")
        self.candidates = candidates
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
