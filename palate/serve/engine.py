"""How a batch of different requests becomes one pass through a model: each row has its own history, bans and filter."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from palate.cascade.cascade import Cascade
from palate.data.conditions import Mask
from palate.data.item_filter import combine
from palate.data.sequences import Sequences
from palate.errors import PalateError
from palate.objectives.base import Bias, Scores
from palate.rankers.blend import Blend
from palate.rankers.sequential import SequentialRanker
from palate.rankers.tiger.ranker import TIGER
from palate.recommender import Recommender
from palate.serve.index import FaissIndex
from palate.topk import best_items

# A dense score matrix of one pass is kept below this many numbers (64 MiB of float32).
_SCORES = 2**24
# Smaller catalogues are searched exactly even where approximation is allowed: it would gain nothing.
_FEW = 5_000
# A filter that leaves a smaller share of the catalogue is answered exactly: a scan would find too few of these items.
_BROAD = 0.1
# A cascade keeps what was proposed and scored, so that the same question is not asked twice; at most this many lists.
_LISTS = 10_000


@dataclass(frozen=True)
class Ask:
    """One request in item indices.

    Attributes:
        history: oldest first.
        k: how many items.
        banned: int64, may not be recommended.
        exclude_seen: neither may the items of the history.
        allowed: bool ``[num_items + 1]``, may be recommended; None: all.
        share: of the catalogue that ``allowed`` leaves, where that is known; None: not.
        times: Unix milliseconds of the items of the history; None: not known.
        asked: Unix milliseconds at which the answer is asked for; None: when the newest item was taken.
    """

    history: list[int]
    k: int
    banned: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    exclude_seen: bool = False
    allowed: Mask | None = None
    share: float | None = None
    times: list[int] | None = None
    asked: int | None = None

    @property
    def broad(self) -> bool:
        """Whether so much of the catalogue may be recommended that a scan of its best items is worth while."""
        return self.allowed is None or (self.share or 0.0) >= _BROAD

    def lets(self, item: int) -> bool:
        """Whether an item may be recommended."""
        if self.exclude_seen and item in self.history:
            return False
        return item not in self.banned and (self.allowed is None or bool(self.allowed[item]))

    @property
    def reach(self) -> int:
        """How many of the best items hold ``k`` that are allowed, if what is not allowed is spread evenly; half as many
        again where there is a filter."""
        count = self.k + len(self.banned) + len(set(self.history))
        return count if self.allowed is None else int(1.5 * count / max(self.share or 0.0, _BROAD))

    @property
    def left_out(self) -> npt.NDArray[np.int64]:
        """All items that may not be recommended whatever the filter says."""
        return np.concatenate([self.banned, np.array(self.history, np.int64)]) if self.exclude_seen else self.banned


def histories_of(asks: Sequence[Ask]) -> Sequences:
    """The histories of some requests, with their times where there are any."""
    rows = Sequences.from_lists([ask.history for ask in asks])
    if all(ask.times is None for ask in asks):
        return rows
    return rows.at([ask.times for ask in asks], [ask.asked for ask in asks])


@dataclass(frozen=True)
class Found:
    """Items, best first, none of them padding, and their scores."""

    items: list[int]
    scores: list[float]


class Engine(ABC):
    """Answers batches with a model. Runs on one thread at a time.

    Attributes:
        model: what scores.
        vectors: float32 ``[num_items + 1, dim]`` by which items are alike to the model, or None.
    """

    model: Recommender
    vectors: Tensor | None = None

    @abstractmethod
    def find(self, asks: Sequence[Ask]) -> list[Found]:
        """The best items of every request, as if each had been asked alone."""


class DenseEngine(Engine):
    """For models that score the whole catalogue: popularity, item-knn, any other."""

    def __init__(self, model: Recommender) -> None:
        self.model = model

    def find(self, asks: Sequence[Ask]) -> list[Found]:
        rows = max(1, _SCORES // (self.model.num_items + 1))
        found: list[Found] = []
        for start in range(0, len(asks), rows):
            some = asks[start : start + rows]
            found += best_of(self.scores(some), some)
        return found

    def scores(self, asks: Sequence[Ask]) -> Tensor:
        """float32 ``[B, num_items + 1]`` that may be written to."""
        return self.model.score(histories_of(asks))


class FactoredEngine(DenseEngine):
    """For models whose score is a product of a query and an item's vector, by exact search or by FAISS.

    Args:
        approximate: look by FAISS where a request leaves that open: those with a narrow filter, newcomers, and those
            for which too few items were found are answered exactly.
    """

    model: SequentialRanker

    def __init__(self, model: SequentialRanker, approximate: bool = False) -> None:
        super().__init__(model)
        self.vectors = model.queries(Sequences.from_lists([])).items.cpu()
        self.index = FaissIndex(self.vectors) if approximate and model.num_items >= _FEW else None

    @torch.inference_mode()
    def find(self, asks: Sequence[Ask]) -> list[Found]:
        if self.index is None:
            return super().find(asks)
        found: dict[int, Found] = {}
        easy = [number for number, ask in enumerate(asks) if ask.broad and ask.history]
        if easy:
            found.update(zip(easy, self._approximate([asks[row] for row in easy]), strict=True))
        hard = [
            number
            for number, ask in enumerate(asks)
            if number not in found or (ask.allowed is not None and len(found[number].items) < ask.k)
        ]
        if hard:
            found.update(zip(hard, super().find([asks[row] for row in hard]), strict=True))
        return [found[number] for number in range(len(asks))]

    def _approximate(self, asks: Sequence[Ask]) -> list[Found]:
        assert self.index is not None
        assert self.vectors is not None
        made = self.model.queries(histories_of(asks))
        bias = made.bias and Bias(made.bias.rows.cpu(), made.bias.items.cpu(), made.bias.values.cpu())
        scores = Scores(made.queries.cpu(), self.vectors, bias)
        most = max(ask.reach for ask in asks)
        items, values = self.index.search(scores.queries, min(most, self.model.num_items))
        items, values = _with_bias(scores, items, values)
        left_out = [ask.left_out for ask in asks]
        rows = torch.repeat_interleave(torch.arange(len(asks)), torch.tensor([len(one) for one in left_out]))
        out = _among(items, rows, torch.from_numpy(np.concatenate(left_out)), len(self.vectors))
        for row, ask in enumerate(asks):
            if ask.allowed is not None:
                out[row] |= ~torch.from_numpy(ask.allowed)[items[row]]
        columns, values = best_items(values.masked_fill(out | (items == 0), -torch.inf), max(ask.k for ask in asks))
        return _listed(items.gather(1, columns).masked_fill(values == -torch.inf, 0), values, asks)


class BlendEngine(DenseEngine):
    """For weighted sums of models; items are alike by the vectors of the first part that has some."""

    def __init__(self, model: Blend) -> None:
        super().__init__(model)
        neural = next((part for part in model.parts if isinstance(part, SequentialRanker)), None)
        self.vectors = None if neural is None else neural.queries(Sequences.from_lists([])).items.cpu()


class SearchEngine(Engine):
    """For models whose search follows only what a request allows: one request after the other."""

    def __init__(self, model: Recommender) -> None:
        self.model = model

    def find(self, asks: Sequence[Ask]) -> list[Found]:
        found = []
        for ask in asks:
            mask = combine(self.model.num_items, [ask.allowed], ask.banned)
            allowed = None if mask is None else torch.from_numpy(mask)
            items, scores = self.model.recommend(histories_of([ask]), ask.k, ask.exclude_seen, allowed)
            found += _listed(items, scores, [ask])
        return found


class CascadeEngine(SearchEngine):
    """For a fast model that proposes and a slow one that decides."""

    model: Cascade

    def find(self, asks: Sequence[Ask]) -> list[Found]:
        found = super().find(asks)
        self.model.lists.forget(_LISTS)
        return found


def engine_of(model: Recommender, approximate: bool = False) -> Engine:
    """The quickest way to ask a model.

    Args:
        approximate: by FAISS; see :class:`FactoredEngine`.

    Raises:
        PalateError: FAISS for a model whose scores are no products of vectors, or without its package.
    """
    if isinstance(model, Cascade):  # may stand beside its retriever, which FAISS does search
        return CascadeEngine(model)
    if isinstance(model, SequentialRanker):
        return FactoredEngine(model, approximate)
    if approximate:
        raise PalateError(
            f"FAISS searches products of a query and an item's vector, and the scores of a {model.name} are none",
            "Serve it with --index exact.",
        )
    if isinstance(model, TIGER):
        return SearchEngine(model)
    if isinstance(model, Blend):
        return BlendEngine(model)
    return DenseEngine(model)


def best_of(scores: Tensor, asks: Sequence[Ask]) -> list[Found]:
    """The best items of every row of ``scores`` (``[B, num_items + 1]``, written to), each row under its own rules."""
    width = scores.shape[1]
    cells = [part for row, ask in enumerate(asks) for part in ([row * width], ask.left_out + row * width)]
    scores = scores.contiguous()
    scores.view(-1).index_fill_(0, torch.from_numpy(np.concatenate(cells)).to(scores.device), -torch.inf)
    _apply_filters(scores, asks)
    items, values = best_items(scores, min(max(ask.k for ask in asks), scores.shape[1] - 1))
    return _listed(items, values, asks)


def _apply_filters(scores: Tensor, asks: Sequence[Ask]) -> None:
    """Leave out what may not be recommended: at once where all rows have one filter, such as a shop's own rules."""
    first = asks[0].allowed
    if all(ask.allowed is first for ask in asks):
        if first is not None:
            scores.masked_fill_(torch.from_numpy(~first).to(scores.device), -torch.inf)
        return
    for row, ask in enumerate(asks):
        if ask.allowed is not None:
            scores[row].masked_fill_(torch.from_numpy(~ask.allowed).to(scores.device), -torch.inf)


def _listed(items: Tensor, values: Tensor, asks: Sequence[Ask]) -> list[Found]:
    found = []
    for ask, row, scores in zip(asks, items.tolist(), values.tolist(), strict=True):
        listed = [item for item in row[: ask.k] if item]  # padding stands at the end
        found.append(Found(listed, scores[: len(listed)]))
    return found


def _with_bias(scores: Scores, items: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Score the items of a bias too, which products alone put in the wrong place (those of the history, in models that
    have learnt what repetition is worth; the neighbours of the newest ones): appended where the search missed them,
    corrected where it did not."""
    bias = scores.bias
    if bias is None or not len(bias.rows):
        return items, values
    counts = torch.bincount(bias.rows, minlength=len(items))
    place = torch.arange(len(bias.rows)) - (counts.cumsum(0) - counts)[bias.rows]
    extra = torch.zeros(len(items), int(counts.max()), dtype=torch.long)
    extra[bias.rows, place] = bias.items
    added = torch.full(extra.shape, -torch.inf)
    added[bias.rows, place] = bias.values
    exact = Scores(scores.queries, scores.items).at(extra) + added
    again = _among(items, bias.rows, bias.items, len(scores.items))
    return torch.cat([items.masked_fill(again, 0), extra], 1), torch.cat([values, exact], 1)


def _among(items: Tensor, rows: Tensor, columns: Tensor, width: int) -> Tensor:
    """Which of ``items`` (``[B, C]``) are among the columns that are paired with their row: bool ``[B, C]``.

    A search in sorted pairs: comparing each with each would take ``C`` times as many steps as there are pairs.
    """
    if not len(rows):
        return torch.zeros_like(items, dtype=torch.bool)
    keys = (rows * width + columns).sort().values
    own = torch.arange(len(items)).unsqueeze(1) * width + items
    return keys[torch.searchsorted(keys, own).clamp_max(len(keys) - 1)] == own
