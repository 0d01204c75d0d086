"""Rankers whose scores are sums of the similarities of some items to those of the history: sparse rows."""

from __future__ import annotations

import math
from abc import abstractmethod
from functools import cached_property

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from palate.data.sequences import Sequences
from palate.features.largest import Integers
from palate.rankers.mapped import MappedRanker
from palate.recommender import Histories, ItemScorer, as_sequences


class AlikeRanker(MappedRanker):
    """Scores an item by :meth:`alike_to`. An empty history is answered by popularity; so is one that is alike to
    nothing, on a scale so small that in a sum with other rankers' scores it only breaks ties.

    Attributes:
        counts: float32 ``[num_items + 1]``, training interactions of each item.
    """

    counts: Tensor

    @abstractmethod
    def alike_to(self, rows: Sequences) -> sparse.csr_matrix:
        """The summed similarities, float32 CSR ``[B, num_items + 1]``."""

    def score(self, histories: Histories, candidates: Tensor | None = None) -> Tensor:
        rows = as_sequences(histories)
        scores = torch.from_numpy(self.alike_to(rows).toarray())
        scores[~(scores > 0).any(1)] = self._hint
        scores[torch.from_numpy(rows.lengths == 0)] = self.counts
        scores[:, 0] = -torch.inf
        return scores if candidates is None else scores.gather(1, candidates.cpu())

    @cached_property
    def _hint(self) -> Tensor:
        """The counts, times a power of two that keeps their order and leaves them below 1e-6."""
        return self.counts * 2.0 ** -(math.frexp(float(self.counts.max()))[1] + 20)

    def item_scorer(self, histories: Histories, memory: int) -> ItemScorer:
        """See :meth:`Recommender.item_scorer`. It is for a shard: the sums are those of whole rows."""
        rows = as_sequences(histories)
        alike, newcomers = self.alike_to(rows), torch.from_numpy(rows.lengths == 0)
        unknown = torch.from_numpy((alike > 0).getnnz(axis=1) == 0)
        by_item = alike.tocsc()

        def scorer(items: slice | Tensor) -> Tensor:
            columns = items.numpy() if isinstance(items, Tensor) else items
            scores = torch.from_numpy(by_item[:, columns].toarray(order="C"))
            scores[unknown] = self._hint[items]
            scores[newcomers] = self.counts[items]
            return scores

        return scorer


def only_read(histories: sparse.csr_matrix) -> tuple[Integers, sparse.csr_matrix]:
    """The items that histories weigh, ascending ``[n]``, and their weights, CSR ``[B, n]``.

    A product with these rows of a matrix is that with the whole matrix, to the bit.
    """
    weights = histories.copy()
    weights.eliminate_zeros()
    items, places = np.unique(weights.indices, return_inverse=True)
    found = sparse.csr_matrix((weights.data, places, weights.indptr), shape=(weights.shape[0], len(items)))
    return items.astype(np.int32), found
