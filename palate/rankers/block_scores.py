"""Scores of a sequence ranker for one block of items after the other: neither all scores nor all vectors at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from palate.data.sequences import Sequences
from palate.objectives.base import Bias, Scores
from palate.rankers.append import overridden

if TYPE_CHECKING:
    from palate.rankers.sequential import SequentialRanker

# Histories encoded at a time.
_HISTORIES = 256
# A product with fewer columns is computed in another way on many processors, and rounded in another way.
_COLUMNS = 4


class BlockScorer:
    """An :data:`palate.recommender.ItemScorer`: called with items, it gives their scores, float32 ``[B, n]``.

    Args:
        model: in eval mode, or put into it for as long as a block takes.
        memory: bytes that the vectors of all items may take. Where they would take more, and are not there already,
            the vectors of each block are made when it is scored.
    """

    @torch.no_grad()
    def __init__(self, model: SequentialRanker, histories: Sequences, memory: int) -> None:
        self._model = model
        self._by_rows = self._makes_vectors(memory)
        starts = range(0, len(histories), step := self._histories_at_once())
        some = [histories[start : min(start + step, len(histories))] for start in starts]
        scores = [self._encoded(one) for one in some]
        self._queries = torch.cat([one.queries for one in scores])
        self._vectors = scores[0].items
        self._biases = [
            Bias(one.bias.rows + start, one.bias.items, one.bias.values)
            for start, one in zip(starts, scores, strict=True)
            if one.bias is not None
        ]
        self._added = [
            model.neighbours.additions(one, self._among).moved(start, model.device)
            for start, one in zip(starts, some, strict=True)
            if model.neighbours is not None
        ]
        new = torch.from_numpy(histories.lengths == 0).to(model.device)
        self._new = new if model.popularity is not None and bool(new.any()) else None

    @torch.no_grad()
    def __call__(self, items: slice | Tensor) -> Tensor:
        index = items if isinstance(items, Tensor) else torch.arange(items.start, items.stop)
        index = index.to(self._queries.device)
        vectors = self._made(index) if self._by_rows else self._vectors[items if isinstance(items, slice) else index]
        if len(vectors) < _COLUMNS:
            vectors = torch.nn.functional.pad(vectors, (0, 0, 0, _COLUMNS - len(vectors)))
        scores = (self._queries @ vectors.T)[:, : len(index)].contiguous()
        for bias in self._biases:
            places = torch.searchsorted(index, bias.items).clamp_max(len(index) - 1)
            here = index[places] == bias.items
            scores.index_put_((bias.rows[here], places[here]), bias.values[here], accumulate=True)
        for added in self._added:
            added.add_to(scores, index)
        if self._new is not None and self._model.popularity is not None:
            scores[self._new] = self._model.popularity.to(scores.device)[index]
        if int(index[0]) == 0:
            scores[:, 0] = -torch.inf
        return scores

    def _makes_vectors(self, memory: int) -> bool:
        """Whether the vectors of each block are made when it is scored."""
        in_rows = not {"forward", "id_vectors"} & overridden(type(self._model.items), "ItemEncoder")
        bytes_of_all = 4 * (self._model.num_items + 1) * self._model.items.out_dim
        return self._model._table is None and in_rows and bytes_of_all > memory

    @property
    def _among(self) -> range:
        """Holds all items that are scored."""
        return range(1, self._model.num_items + 1)

    def _histories_at_once(self) -> int:
        return _HISTORIES

    def _encoded(self, histories: Sequences) -> Scores:
        return self._model._own_scores(histories, by_rows=self._by_rows)

    def _made(self, index: Tensor) -> Tensor:
        """Vectors ``[n, out_dim]`` of some items, as they are multiplied with queries."""
        return self._model._scores(self._queries[:0], self._read(index)).items

    def _read(self, index: Tensor) -> Tensor:
        """The same as :meth:`SequentialRanker.table` would hold them."""
        model = self._model
        was_training = model.training
        model.items.eval()
        vectors = self._rows(index)
        model.items.train(was_training)
        return vectors

    def _rows(self, index: Tensor) -> Tensor:
        return self._model.items.rows(index)
