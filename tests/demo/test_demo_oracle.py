"""The oracle: the very probabilities that purchases were drawn with, evaluated like any model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from palate.data.dataset import Dataset, Part
from palate.data.sequences import Sequences
from palate.demo.oracle import Oracle
from palate.demo.shop import Truth, build_demo, load_truth
from palate.errors import PalateError
from palate.evaluation.evaluate import evaluate
from palate.rankers.popularity import Popularity


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Truth]:
    folder = tmp_path_factory.mktemp("oracle") / "demo"
    return build_demo(folder, seed=0, items=60, users=800), load_truth(folder)


def test_its_scores_are_the_probabilities_of_the_draw(shop: tuple[Dataset, Truth]) -> None:
    data, truth = shop
    cases = data.cases("test")
    scores = Oracle(data, truth).score(cases.histories).double()
    chances = scores.exp()
    assert torch.allclose(chances.sum(dim=1), torch.ones(len(cases), dtype=torch.double), atol=1e-5)
    rows = np.flatnonzero(data.parts == Part.TEST)
    for case in range(0, len(cases), 40):
        assert not chances[case, cases.histories[case]].any()
        assert not chances[case, truth.released > truth.times[rows[case]]].any()
    # What was drawn is as likely as the probabilities themselves expect: mean log p(target) against sum p log p.
    taken = scores[torch.arange(len(cases)), torch.from_numpy(cases.targets.values).long()].numpy()
    logs = torch.where(chances > 0, scores, torch.zeros(()).double())
    expected = (chances * logs).sum(dim=1)
    spread = (chances * logs**2).sum(dim=1) - expected**2
    standard_error = float(spread.sum().sqrt()) / len(cases)
    assert abs(taken.mean() - float(expected.mean())) < 4 * standard_error
    # Without the visit, or with another's taste, it would not be.
    for wrong in (replace(truth, previous=0 * truth.previous), replace(truth, taste=truth.taste[::-1].copy())):
        other = Oracle(data, wrong).score(cases.histories)
        worse = other[torch.arange(len(cases)), torch.from_numpy(cases.targets.values).long()].numpy()
        assert worse.mean() < taken.mean()


def test_it_is_evaluated_like_a_model_and_is_the_best(shop: tuple[Dataset, Truth]) -> None:
    data, truth = shop
    oracle = Oracle(data, truth)
    for split in ("valid", "test"):
        best = evaluate(oracle, data, split=split, metrics=("ndcg",), ks=(10,))
        plain = evaluate(Popularity.fit(data), data, split=split, metrics=("ndcg",), ks=(10,))
        assert best.users() == plain.users()
        assert best.summary()["ndcg@10"] > plain.summary()["ndcg@10"]
    histories = data.cases("test").histories[:3]
    candidates = torch.tensor([[1, 2, 3], [7, 8, 9], [4, 5, 6]])
    assert torch.equal(oracle.score(histories, candidates), oracle.score(histories).gather(1, candidates))


def test_cases_with_the_same_history_share_the_mean_of_their_probabilities(shop: tuple[Dataset, Truth]) -> None:
    data, truth = shop
    cases = data.cases("test")
    one, other = np.flatnonzero(cases.histories.lengths == cases.histories.lengths[0])[:2].tolist()
    items = data.items.copy()
    start, length = data.offsets[other], cases.histories.lengths[0]
    items[start : start + length] = cases.histories[one]
    same = cases.histories[one : one + 1]
    alone = Oracle(data, truth).score(same)[0].exp()
    both = Oracle(replace(data, items=items), truth).score(same)[0].exp()
    worth = torch.from_numpy(truth.utility([data.offsets[other + 1] - 1], [other]))[0]
    worth[cases.histories[one]] = -torch.inf
    assert torch.allclose(both, (alone + worth.softmax(0)) / 2, atol=1e-6)


def test_what_it_knows_nothing_of_is_refused(shop: tuple[Dataset, Truth], tmp_path: Path) -> None:
    oracle = Oracle(*shop)
    with pytest.raises(PalateError, match="knows only the demo's own"):
        oracle.score(Sequences.from_lists([[1, 2]]))
    with pytest.raises(PalateError, match="no model"):
        oracle.save(tmp_path)
    with pytest.raises(PalateError, match="no model"):
        Oracle.load(tmp_path)
