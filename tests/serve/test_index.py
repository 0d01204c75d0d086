"""Search finds what sorting the whole catalogue finds; FAISS nearly all of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from palate.data.sequences import Sequences
from palate.errors import PalateError
from palate.features.neighbour_store import NeighbourList
from palate.rankers.neighbours import NeighbourScores
from palate.rankers.sasrec import SASRec
from palate.serve.engine import Ask, DenseEngine, FactoredEngine, Found, best_of
from palate.serve.index import FaissIndex
from palate.topk import best_items


def test_faiss_finds_nearly_all_of_the_best() -> None:
    pytest.importorskip("faiss")
    draw = torch.Generator().manual_seed(0)
    vectors, queries = torch.randn(20_001, 32, generator=draw), torch.randn(50, 32, generator=draw)
    items, values = FaissIndex(vectors).search(queries, 10)
    scores = queries @ vectors.T
    scores[:, 0] = -torch.inf
    truth = best_items(scores, 10)[0]
    hits = sum(len(set(mine) & set(true)) for mine, true in zip(items.tolist(), truth.tolist(), strict=True))
    assert hits / truth.numel() >= 0.95
    torch.testing.assert_close(values, scores.gather(1, items), atol=1e-4, rtol=1e-4)


def test_faiss_scores_more_candidates_of_more_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss")
    monkeypatch.setattr("palate.serve.index._ONE_OF", 2)
    vectors = torch.randn(3001, 4, generator=torch.Generator().manual_seed(0))
    assert FaissIndex(vectors).candidates == 1500
    assert FaissIndex(vectors[:1501]).candidates == 1000


@pytest.mark.parametrize("dim", [1, 3, 7])
def test_faiss_takes_odd_widths(dim: int) -> None:
    pytest.importorskip("faiss")
    draw = torch.Generator().manual_seed(0)
    vectors, queries = torch.randn(1500, dim, generator=draw), torch.randn(5, dim, generator=draw)
    items, _ = FaissIndex(vectors, candidates=4497).search(queries, 3)
    scores = queries @ vectors.T
    scores[:, 0] = -torch.inf
    assert torch.equal(items, best_items(scores, 3)[0])


def test_small_catalogues_are_searched_exactly(model: SASRec) -> None:
    assert FactoredEngine(model, approximate=True).index is None
    with pytest.raises(PalateError, match="too few"):
        FaissIndex(torch.randn(50, 8))


@pytest.fixture(scope="module")
def model() -> SASRec:
    torch.manual_seed(0)
    config = SASRec.Config(dim=16, max_length=8, layers=1, heads=1, repeat_bias=True)
    made = SASRec(config, 3000, {})
    torch.nn.init.normal_(made.items.ids.weight)
    assert made.repeat is not None
    made.repeat.data = torch.linspace(1.5, -1, 8)
    made.popularity = torch.arange(3001).float()
    return made.eval()


def _asks() -> list[Ask]:
    allowed = np.zeros(3001, np.bool_)
    allowed[100:120] = True
    return [
        Ask([1, 2, 3], 10),
        Ask([4, 5], 3, banned=np.array([9]), exclude_seen=True),
        Ask([], 5),
        Ask([7], 30, allowed=allowed),
        Ask([7], 30, banned=np.array([105]), allowed=allowed),
    ]


def _alone(model: SASRec, ask: Ask) -> Found:
    scores = model.score([ask.history])
    scores[:, [0, *ask.left_out.tolist()]] = -torch.inf
    if ask.allowed is not None:
        scores[:, ~ask.allowed] = -torch.inf
    items, values = best_items(scores, ask.k)
    kept = items[0] > 0
    return Found(items[0][kept].tolist(), values[0][kept].tolist())


@pytest.mark.parametrize("approximate", [False, True])
def test_a_batch_answers_each_as_if_alone(model: SASRec, approximate: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if approximate:
        pytest.importorskip("faiss")
        monkeypatch.setattr("palate.serve.engine._FEW", 2000)
    engine = FactoredEngine(model, approximate)
    assert (engine.index is not None) == approximate
    for found, ask in zip(engine.find(_asks()), _asks(), strict=True):
        expected = _alone(model, ask)
        assert found.items == expected.items
        assert found.scores == pytest.approx(expected.scores, abs=1e-4)
    assert len(_alone(model, _asks()[4]).items) == 19


def test_faiss_puts_repeated_items_where_their_bias_does(model: SASRec, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bias of the newest item is +15 here: products alone would not find it."""
    pytest.importorskip("faiss")
    monkeypatch.setattr("palate.serve.engine._FEW", 2000)
    engine = FactoredEngine(model, approximate=True)
    assert engine.index is not None
    history = [2000, 2001, 2002]
    found = engine.find([Ask(history, 5)])[0]
    assert found.items == _alone(model, Ask(history, 5)).items
    assert set(found.items) & set(history)
    assert len(set(found.items)) == 5


def test_faiss_finds_what_only_neighbours_bring_to_the_top(model: SASRec, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss")
    monkeypatch.setattr("palate.serve.engine._FEW", 2000)
    monkeypatch.setattr(model, "neighbours", _neighbours(3000))
    engine = FactoredEngine(model, approximate=True)
    assert engine.index is not None
    asks = [Ask([7, 8, 9], 5), Ask([10], 5, np.array([1509])), Ask([5, 9], 5), Ask([3000, 9], 5, exclude_seen=True)]
    for found, ask in zip(engine.find(asks), asks, strict=True):
        expected = _alone(model, ask)
        assert found.items == expected.items
        assert found.scores == pytest.approx(expected.scores, abs=1e-4)
    # The neighbour of 9 is worth 40 here, wherever its product stands.
    assert [engine.find([ask])[0].items[0] for ask in asks[::2]] == [1509, 1509]


def _neighbours(items: int) -> NeighbourScores:
    """By one source the item 1,500 places on, by another that and the next."""
    near = np.zeros((items + 1, 2), np.int32)
    near[1:, 0] = (np.arange(1, items + 1) + 1499) % items + 1
    near[1:, 1] = near[1:, 0] % items + 1
    values = np.array([[0.0, 0.0], *[[0.8, 0.6]] * items], np.float32)
    lists = [
        NeighbourList.of("text", near[:, :1].copy(), values[:, :1].copy()),
        NeighbourList.of("lexical", near, values),
    ]
    return NeighbourScores(lists, [[20.0, 5.0], [30.0, 0.0]])


def test_large_batches_are_scored_in_parts(model: SASRec, monkeypatch: pytest.MonkeyPatch) -> None:
    import palate.serve.engine as module

    monkeypatch.setattr(module, "_SCORES", 3001 * 2)
    asks = [Ask([n + 1], 3) for n in range(5)]
    found = DenseEngine(model).find(asks)
    assert [one.items for one in found] == [_alone(model, ask).items for ask in asks]
    assert model.queries(Sequences.from_lists([])).items.shape == (3001, 16)


def test_scores_may_be_the_transpose_of_a_matrix() -> None:
    scores = torch.randn(9, 3, generator=torch.Generator().manual_seed(0)).T
    asks = [Ask([1, 4], 3, exclude_seen=True), Ask([2], 9), Ask([], 1, banned=np.array([5]))]
    assert best_of(scores.clone(), asks) == best_of(scores.contiguous(), asks)
