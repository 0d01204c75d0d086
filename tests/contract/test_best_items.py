"""The one selection of the best items gives what a sort of every row gives, ties and all."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from evaluation_helpers import Fixed
from torch import Tensor

import palate.topk as module
from palate.rankers.popularity import Popularity
from palate.rankers.sasrec import SASRec
from palate.recommender import Recommender
from palate.topk import best_items


def sorted_rows(scores: Tensor, k: int) -> tuple[list[list[int]], list[list[float]]]:
    """Every row sorted by (score, column), in plain Python."""
    items, values = [], []
    for row in scores.tolist():
        best = sorted((i for i, value in enumerate(row) if value > -np.inf), key=lambda i: (-row[i], i))[:k]
        items.append(best + [0] * (k - len(best)))
        values.append([row[i] for i in best] + [-np.inf] * (k - len(best)))
    return items, values


@pytest.mark.parametrize("many", [1, 2**16])  # of how many scores on blocks are looked at: all, and none of these
@pytest.mark.parametrize("width", [1, 60, 640, 1000, 3001])
@pytest.mark.parametrize("k", [1, 3, 20, 70])
def test_agrees_with_a_sort(monkeypatch: pytest.MonkeyPatch, many: int, width: int, k: int) -> None:
    monkeypatch.setattr(module, "_MANY", many)
    monkeypatch.setattr(module, "_KEYS", 2 * width)
    rng = np.random.default_rng(k)
    scores = torch.from_numpy(rng.normal(size=(12, width)).astype(np.float32))
    scores[3:6] = scores[3:6].round()  # ties in plenty
    scores[5:8][torch.from_numpy(rng.random((3, width)) < 0.3)] = -torch.inf
    scores[8] = 0.0
    scores[8, ::2] = -0.0  # equal to 0.0
    scores[9] = -torch.inf
    scores[10] = -torch.inf
    scores[10, [width // 2, width - 1]] = torch.tensor([1.0, 2.0])
    scores[11, width // 3 :] = torch.inf
    before = scores.clone()
    items, values = best_items(scores, k)
    assert torch.equal(scores, before)
    assert (items.tolist(), values.tolist()) == sorted_rows(scores, k)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_not_rounded(dtype: torch.dtype) -> None:
    scores = torch.randn(5, 2000, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    scores[2] = scores[2].round()
    scores[3, 7:9] = torch.tensor([9.0, 9.0 + 1e-12], dtype=dtype)
    items, values = best_items(scores, 20)
    assert values.dtype == dtype
    assert (items.tolist(), values.tolist()) == sorted_rows(scores, 20)


@pytest.mark.parametrize("width", [50, 70_000])
@pytest.mark.parametrize("sign", [1, -1])
def test_what_is_not_a_number_is_seen_first(width: int, sign: int) -> None:
    scores = torch.randn(2, width)
    scores[1, [5, width - 1]] = torch.tensor([torch.inf, sign * torch.nan])
    items, values = best_items(scores, 3)
    assert items[1, :2].tolist() == [width - 1, 5]
    assert values[1].isnan().tolist() == [True, False, False]


def test_no_rows_and_no_history() -> None:
    assert best_items(torch.empty(0, 70_000), 3)[0].shape == (0, 3)


def test_recommend_scores_a_few_histories_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Fixed(torch.randn(7, 31, generator=torch.Generator().manual_seed(0)))
    histories = [list(range(1, 1 + length)) for length in range(10)]
    allowed = torch.arange(31) % 3 > 0
    whole = model.recommend(histories, 5, allowed=allowed)
    sizes: list[int] = []
    score = model.score
    monkeypatch.setattr(model, "score", lambda rows: sizes.append(len(rows)) or score(rows))  # type: ignore[func-returns-value]
    monkeypatch.setattr("palate.recommender._SCORES", 3 * 31)
    parts = model.recommend(histories, 5, allowed=allowed)
    assert sizes == [3, 3, 3, 1]
    assert torch.equal(parts[0], whole[0])
    assert torch.equal(parts[1], whole[1])
    assert model.recommend([], 5)[0].shape == (0, 5)


@pytest.mark.parametrize("kind", ["sasrec", "popularity"])
def test_blocks_of_items_give_what_whole_rows_give(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    torch.manual_seed(0)
    model: Recommender = SASRec(SASRec.Config(dim=8), 30, {}).eval()
    if kind == "popularity":  # many ties
        model = Popularity(torch.arange(31) % 4, Popularity.Config())
    histories = [list(range(1, 1 + length)) for length in range(1, 30)]
    allowed = torch.arange(31) % 7 > 0
    whole = model.recommend(histories, 12, allowed=allowed)
    monkeypatch.setattr("palate.recommender._SCORES", 3 * 31)
    monkeypatch.setattr("palate.recommender.HISTORIES_IN_BLOCKS", 20)
    monkeypatch.setattr(model, "score", None)  # not called
    blocks = model.recommend(histories, 12, allowed=allowed)
    assert torch.equal(blocks[0], whole[0])
    assert torch.allclose(blocks[1], whole[1])
