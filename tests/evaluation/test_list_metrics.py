"""Metrics of whole lists, beside plain loops over SciPy's and scikit-learn's functions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.spatial.distance import pdist
from scipy.stats import entropy
from worlds import random_logs

from palate.data.catalogue import Catalogue
from palate.data.dataset import Dataset
from palate.data.sequences import Sequences
from palate.errors import PalateError
from palate.evaluation.evaluate import evaluate
from palate.evaluation.item_facts import ItemFacts, groups_of
from palate.evaluation.metrics import METRICS
from palate.evaluation.ranks import Floats, Ranks
from palate.evaluation.settings import EvaluationSettings
from palate.features.matrix import import_matrix
from palate.rankers.popularity import Popularity

ITEMS, CASES, K = 30, 12, 5
KINDS = ["vase", "lamp", "rug"]


@pytest.fixture
def ranks() -> Ranks:
    """Lists of different items with holes at the end, histories, and items of none, one or two groups."""
    rng = np.random.default_rng(0)
    lists = np.stack([rng.permutation(ITEMS)[:8] + 1 for _ in range(CASES)]).astype(np.int32)
    lists[3, 2:] = 0
    lists[4] = 0
    histories = Sequences.from_lists(
        [(rng.permutation(ITEMS)[: rng.integers(1, 7)] + 1).tolist() for _ in range(CASES)]
    )
    names = [rng.permutation(KINDS)[: rng.integers(0, 3)].tolist() for _ in range(ITEMS)]
    vectors = np.vstack([np.zeros(4), rng.normal(size=(ITEMS, 4))]).astype(np.float32)
    present = np.r_[False, rng.random(ITEMS) > 0.2]
    vectors[~present] = 0
    counts = np.r_[0, rng.integers(0, 40, ITEMS)]
    made = Ranks.of([[int(rng.integers(1, ITEMS))] for _ in range(CASES)], num_candidates=ITEMS)
    return replace(
        made,
        lists=lists,
        train_counts=counts,
        histories=histories,
        item_facts=ItemFacts(vectors, present, groups_of(pl.Series(names, dtype=pl.List(pl.String)))),
    )


def shown(ranks: Ranks, case: int) -> list[int]:
    assert ranks.lists is not None
    return [item for item in ranks.lists[case, :K].tolist() if item]


def taken(ranks: Ranks, case: int) -> list[int]:
    assert ranks.histories is not None
    return list(ranks.histories[case].tolist())


def test_diversity_is_the_mean_distance_of_pairs(ranks: Ranks) -> None:
    facts = ranks.item_facts
    assert facts is not None
    assert facts.vectors is not None
    assert facts.present is not None
    expected = []
    for case in range(CASES):
        known = [item for item in shown(ranks, case) if facts.present[item]]
        expected.append(pdist(facts.vectors[known], "cosine").mean() if len(known) > 1 else 0.0)
    np.testing.assert_allclose(METRICS["diversity"](ranks, K), expected, atol=1e-6)
    assert min(expected) == 0 < max(expected)


def test_miscalibration_is_the_divergence_of_shares(ranks: Ranks) -> None:
    facts = ranks.item_facts
    assert facts is not None
    assert facts.groups is not None
    groups = facts.groups

    def shares(items: list[int]) -> Floats:
        total = np.zeros(len(KINDS))
        for item in items:
            for group in groups[item]:
                total[group] += 1 / len(groups[item])
        return total / total.sum() if total.sum() else total

    expected = []
    for case in range(CASES):
        p, q = shares(taken(ranks, case)), shares(shown(ranks, case))
        expected.append(entropy(p, 0.99 * q + 0.01 * p) if p.any() and q.any() else 0.0)
    np.testing.assert_allclose(METRICS["miscalibration"](ranks, K), expected, atol=1e-9)
    assert max(expected) > 0.1


def test_a_list_like_the_history_is_calibrated(ranks: Ranks) -> None:
    assert ranks.histories is not None
    same = np.stack([np.resize(ranks.histories[case], 8) for case in range(CASES)]).astype(np.int32)
    whole = Sequences.from_lists([row.tolist() for row in same])
    assert METRICS["miscalibration"](replace(ranks, lists=same, histories=whole), 8).max() < 1e-9


def test_popularity_lift_compares_lists_with_histories(ranks: Ranks) -> None:
    counts = ranks.train_counts
    assert counts is not None
    assert ranks.lists is not None
    cases = [case for case in range(CASES) if shown(ranks, case)]
    listed = np.mean([counts[shown(ranks, case)].mean() for case in cases])
    before = np.mean([counts[taken(ranks, case)].mean() for case in cases])
    assert METRICS["popularity-lift"](ranks, K) == pytest.approx(listed / before - 1)
    top = np.tile(np.argsort(-counts)[:8].astype(np.int32), (CASES, 1))
    assert METRICS["popularity-lift"](replace(ranks, lists=top), K) > 0.3


def test_gini_is_zero_for_equal_shares_and_grows_with_inequality(ranks: Ranks) -> None:
    counts = np.zeros(9, np.int64)
    equal = np.arange(1, 9, dtype=np.int32).reshape(2, 4)
    one = np.full((2, 1), 3, np.int32)
    assert METRICS["gini"](replace(Ranks.of([[1], [1]], 8), lists=equal, train_counts=counts), 4) == 0
    assert METRICS["gini"](replace(Ranks.of([[1], [1]], 8), lists=one, train_counts=counts), 1) == 7 / 8
    assert ranks.lists is not None
    assert ranks.train_counts is not None
    times = np.bincount(ranks.lists[:, :K].ravel(), minlength=ITEMS + 1)[1:].astype(float)
    pairs = np.abs(times[:, None] - times[None, :]).sum() / (2 * ITEMS**2 * times.mean())
    assert METRICS["gini"](ranks, K) == pytest.approx(pairs)


def test_serendipity_counts_hits_that_popularity_has_not() -> None:
    counts = np.array([0, 9, 8, 1, 1])  # items 1 and 2 are the most popular
    ranks = replace(Ranks.of([[1], [2], [1], [4]], 4), items=np.array([1, 3, 4, 3], np.int32), train_counts=counts)
    assert METRICS["serendipity"](ranks, 2).tolist() == [0, 0.5, 0.5, 0]


def test_evaluate_takes_vectors_and_groups_from_the_dataset(tmp_path: Path) -> None:
    data = random_logs(users=30, items=ITEMS)
    frame = data.catalogue.frame.with_columns(category=pl.Series([KINDS[item % 3] for item in range(ITEMS)]))
    replace(data, catalogue=Catalogue(frame)).save(tmp_path / "data")
    data = Dataset.load(tmp_path / "data")
    model = Popularity.fit(data)
    with pytest.raises(PalateError, match="has no 'text'") as error:
        evaluate(model, data, metrics=["ndcg", "diversity"], ks=[3])
    assert "palate encode" in str(error.value.remedy)
    with pytest.raises(PalateError, match="no such field"):
        evaluate(model, data, metrics=["ndcg", "miscalibration"], ks=[3], calibration_by="colur")
    matrix = np.random.default_rng(0).normal(size=(ITEMS, 4)).astype(np.float32)
    np.save(tmp_path / "matrix.npy", matrix, allow_pickle=False)
    (tmp_path / "ids.txt").write_text("\n".join(data.catalogue.ids[1:]))
    import_matrix(data, tmp_path / "data", "text", tmp_path / "matrix.npy", ids=tmp_path / "ids.txt", name="mine")
    result = evaluate(model, data, metrics=["ndcg", "diversity", "miscalibration", "gini", "popularity-lift"], ks=[3])
    assert result.facts["items"] == {"diversity_by": "text", "calibration_by": "category"}
    best = model.recommend(data.cases("test").histories, 3)[0].tolist()
    by_user = [pdist(matrix[np.array(row) - 1], "cosine").mean() for row in best]
    np.testing.assert_allclose(result.values("diversity@3"), by_user, atol=1e-6)
    assert {"gini@3", "popularity-lift@3"} == set(result.totals)


def test_no_figure_that_should_be_small_decides() -> None:
    given = {"protocol": "full", "exclude_seen": True, "metrics": "ndcg,miscalibration", "ks": "10", "seed": 0}
    given |= {"candidates": "uniform", "negatives": 100, "device": "cpu", "primary": "miscalibration@10"}
    with pytest.raises(PalateError, match="the lower the better"):
        EvaluationSettings.parse(given)
