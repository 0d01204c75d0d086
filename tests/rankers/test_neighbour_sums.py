"""What neighbours add, three ways: to whole rows of scores, as a sparse matrix, and at every position of a sequence."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from palate.data.sequences import Sequences
from palate.features.neighbour_store import NeighbourList
from palate.rankers.neighbours import NeighbourScores
from palate.rankers.sasrec import SASRec

ITEMS = 30
HISTORIES = [[3, 4, 5], [], [7], [2, 9, 2, 9, 2], list(range(1, 29))]


def _list(source: str, keep: int, seed: int) -> NeighbourList:
    rng = np.random.default_rng(seed)
    items, values = np.zeros((ITEMS + 1, keep), np.int32), np.zeros((ITEMS + 1, keep), np.float32)
    for item in range(1, ITEMS + 1):
        count = rng.integers(0, keep + 1)
        others = rng.permutation([one for one in range(1, ITEMS + 1) if one != item])[:count]
        items[item, :count], values[item, :count] = others, np.sort(rng.random(count) + 0.01)[::-1]
    return NeighbourList.of(source, items, values)


def _made(weights: list[list[float]]) -> NeighbourScores:
    return NeighbourScores([_list("text", 5, 0), _list("lexical", 8, 1)], weights)


def _expected(made: NeighbourScores, history: list[int]) -> np.ndarray:
    """The formula, number by number."""
    added = np.zeros(ITEMS + 1)
    for one, weights in zip(made.lists, made.weights, strict=True):
        for lag, item in enumerate(history[: -len(weights) - 1 : -1]):
            for near, cosine in zip(one.items[item], one.values[item], strict=True):
                added[near] += weights[lag] * cosine
    added[[0, *history]] = 0
    return added


@pytest.mark.parametrize("weights", [[[1.0, 0.5, 0.25], [2.0, 0.0, 0.1]], [[0.0] * 3, [0.0, 1.0, 0.0]], [[0.0], [0.0]]])
def test_all_ways_add_what_the_formula_says(weights: list[list[float]]) -> None:
    made, rows = _made(weights), Sequences.from_lists(HISTORIES)
    expected = np.stack([_expected(made, history) for history in HISTORIES])
    sparse = made.of(rows)
    assert sparse.shape == (len(HISTORIES), ITEMS + 1)
    assert sparse.has_sorted_indices
    np.testing.assert_allclose(sparse.toarray()[:, 1:], expected[:, 1:], atol=1e-6)
    scores = torch.randn(len(HISTORIES), ITEMS + 1, generator=torch.Generator().manual_seed(0))
    before = scores.clone()
    made.add_to(scores, rows)
    np.testing.assert_allclose((scores - before)[:, 1:].numpy(), expected[:, 1:], atol=1e-6)
    for step in (1, 7, ITEMS + 1):  # block by block, and to the last bit
        in_blocks = before.clone()
        for index in torch.arange(ITEMS + 1).split(step):
            block = in_blocks[:, index].contiguous()
            made.additions(rows, range(int(index[0]), int(index[-1]) + 1)).add_to(block, index)
            made.additions(rows, range(ITEMS + 1)).add_to(other := before[:, index].contiguous(), index)
            assert torch.equal(block, other)
            in_blocks[:, index] = block
        assert torch.equal(in_blocks[:, 1:], scores[:, 1:])
    some = torch.arange(1, ITEMS + 1, 3)
    made.additions(rows, range(ITEMS + 1)).add_to(block := before[:, some].contiguous(), some)
    assert torch.equal(block, scores[:, some])
    for row, history in enumerate(HISTORIES):  # what was taken keeps its score to the last bit
        assert torch.equal(scores[row, history], before[row, history])
    full = [one for one in HISTORIES if one]
    at = made.at_positions(np.concatenate(full).astype(np.int64), np.array([len(one) for one in full]))
    pasts = [one[: end + 1] for one in full for end in range(len(one))]
    every = np.stack([_expected(made, past) for past in pasts])
    np.testing.assert_allclose(at.toarray()[:, 1:], every[:, 1:], atol=1e-6)
    for row, history in enumerate(HISTORIES):
        for item in range(1, ITEMS + 1):
            assert sum(one.effect for one in made.effects(history, item)) == pytest.approx(
                expected[row, item], abs=1e-6
            )


def test_a_ranker_scores_the_same_with_and_without_candidates() -> None:
    torch.manual_seed(0)
    model = SASRec(SASRec.Config(dim=8, max_length=4, layers=1, repeat_bias=True), ITEMS, {}).eval()
    model.popularity = torch.arange(ITEMS + 1).float()
    with torch.no_grad():
        model.repeat.copy_(torch.tensor([0.1, -0.2, 0.3, 0.0]))
    alone = model.score(HISTORIES)
    model.neighbours = _made([[1.0, 0.5, 0.25], [2.0, 0.0, 0.1]])
    full = model.score(HISTORIES)
    every = torch.arange(ITEMS + 1).expand(len(HISTORIES), -1)
    torch.testing.assert_close(full[:, 1:], model.score(HISTORIES, every)[:, 1:], atol=1e-6, rtol=0)
    torch.testing.assert_close(
        full[[0, 2, 3, 4], 1:],
        model.queries(Sequences.from_lists(HISTORIES)).full()[[0, 2, 3, 4], 1:],
        atol=1e-6,
        rtol=0,
    )
    assert torch.equal(full[1], alone[1])  # a newcomer's
    assert not torch.equal(full[0], alone[0])
