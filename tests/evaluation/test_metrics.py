"""Every accuracy metric against two independent libraries on random ranks."""

from __future__ import annotations

import numpy as np
import pytest
import pytrec_eval
import torch
from sklearn.metrics import average_precision_score, ndcg_score, roc_auc_score
from torchmetrics.functional import retrieval as tm
from torchmetrics.functional.classification import binary_auroc

from palate.errors import PalateError
from palate.evaluation.metrics import METRICS, measure
from palate.evaluation.ranks import Ranks

CANDIDATES = 60
KS = (1, 3, 10, 25)


@pytest.fixture(scope="module")
def ranks() -> Ranks:
    """200 cases of 1 to 15 targets (more than some cut-offs) at random places."""
    rng = np.random.default_rng(0)
    lists = [rng.choice(np.arange(1, CANDIDATES + 1), rng.integers(1, 16), replace=False) for _ in range(200)]
    return Ranks.of([row.tolist() for row in lists], CANDIDATES)


def relevance(ranks: Ranks) -> tuple[np.ndarray, np.ndarray]:
    """Relevance and scores of the ranked candidates: [cases, CANDIDATES]."""
    relevant = np.zeros((len(ranks), CANDIDATES), int)
    relevant[ranks.case, ranks.values - 1] = 1
    scores = np.tile(np.linspace(1, 0, CANDIDATES), (len(ranks), 1))
    return relevant, scores


def torchmetrics_values(ranks: Ranks, name: str, k: int) -> np.ndarray:
    relevant, scores = relevance(ranks)
    function = {
        "recall": tm.retrieval_recall,
        "hitrate": tm.retrieval_hit_rate,
        "ndcg": tm.retrieval_normalized_dcg,
        "mrr": tm.retrieval_reciprocal_rank,
        "map": tm.retrieval_average_precision,
    }[name]
    values = np.array(
        [
            float(function(torch.tensor(s, dtype=torch.float64), torch.tensor(r), top_k=k))
            for r, s in zip(relevant, scores, strict=True)
        ]
    )
    if name == "map":  # it divides by the targets found
        found = relevant[:, :k].sum(1)
        values = values * found / np.minimum(relevant.sum(1), k)
    return values


def trec_values(ranks: Ranks, name: str, k: int) -> np.ndarray:
    relevant, scores = relevance(ranks)
    measure_name = {
        "recall": f"recall.{k}",
        "hitrate": f"success.{k}",
        "ndcg": f"ndcg_cut.{k}",
        "mrr": "recip_rank",
        "map": f"map_cut.{k}",
    }[name]
    qrel = {str(c): {f"d{i}": int(r) for i, r in enumerate(row)} for c, row in enumerate(relevant)}
    depth = k if name == "mrr" else CANDIDATES  # it knows no cut-off for this one
    run = {str(c): {f"d{i}": float(s) for i, s in enumerate(row[:depth])} for c, row in enumerate(scores)}
    result = pytrec_eval.RelevanceEvaluator(qrel, {measure_name}).evaluate(run)
    values = np.array([result[str(c)][measure_name.replace(".", "_")] for c in range(len(ranks))])
    if name == "map":  # it divides by all targets
        values = values * relevant.sum(1) / np.minimum(relevant.sum(1), k)
    return values


@pytest.mark.parametrize("k", KS)
@pytest.mark.parametrize("name", ["recall", "hitrate", "ndcg", "mrr", "map"])
@pytest.mark.parametrize("library", [torchmetrics_values, trec_values])
def test_agrees_with(library, name, k, ranks):
    ours = METRICS[name](ranks, k)
    assert ours.dtype == np.float64
    assert 0 < ours.mean() < 1  # the comparison is not one of zeros
    np.testing.assert_allclose(ours, library(ranks, name, k), atol=1e-6)


def test_auc_agrees_with_sklearn_and_torchmetrics(ranks):
    relevant, scores = relevance(ranks)
    ours = METRICS["auc"](ranks)
    theirs = [roc_auc_score(r, s) for r, s in zip(relevant, scores, strict=True)]
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    theirs = [float(binary_auroc(torch.tensor(s), torch.tensor(r))) for r, s in zip(relevant, scores, strict=True)]
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_uncut_ndcg_and_map_agree_with_sklearn(ranks):
    relevant, scores = relevance(ranks)
    np.testing.assert_allclose(METRICS["ndcg"](ranks, CANDIDATES).mean(), ndcg_score(relevant, scores), atol=1e-6)
    theirs = [average_precision_score(r, s) for r, s in zip(relevant, scores, strict=True)]
    np.testing.assert_allclose(METRICS["map"](ranks, CANDIDATES), theirs, atol=1e-6)


def test_auc_without_anything_to_beat_tells_nothing():
    assert METRICS["auc"](Ranks.of([[1, 2]], num_candidates=2)).tolist() == [0.5]


def with_lists() -> Ranks:
    ranks = Ranks.of([[1], [2]], 4)
    lists = np.array([[1, 2, 3], [1, 4, 0]], np.int32)
    return Ranks(
        ranks.values, ranks.items, ranks.offsets, ranks.num_candidates, lists, np.array([0, 6, 1, 0, 1], np.int64)
    )


def test_coverage_counts_each_item_once_and_padding_never():
    assert [float(METRICS["coverage"](with_lists(), k)) for k in (1, 2, 3)] == [0.25, 0.75, 1.0]


def test_novelty_is_self_information_in_bits():
    # Counts plus one: 7, 2, 1, 2 of 12.
    bits = -np.log2(np.array([7, 2, 1, 2]) / 12)
    expected = [bits[[0, 1, 2]].mean(), bits[[0, 3]].mean()]
    np.testing.assert_allclose(METRICS["novelty"](with_lists(), 3), expected)


@pytest.mark.parametrize("name", ["coverage", "novelty"])
def test_list_metrics_say_what_they_lack(name, ranks):
    with pytest.raises(PalateError, match="best 10 items"):
        METRICS[name](ranks, 10)


def test_restricting_keeps_places_in_the_whole_list():
    ranks = Ranks.of([[1, 4], [2], [3, 9]], 10)
    kept, cases = ranks.restrict(np.array([False, True, False, True, True]))
    assert cases.tolist() == [0, 2]
    assert kept.values.tolist() == [4, 3, 9]
    assert METRICS["recall"](kept, 5).tolist() == [1.0, 0.5]


def test_measure_names_its_columns(ranks):
    values = measure(ranks, {name: METRICS[name] for name in ("ndcg", "auc")}, [5, 10])
    assert list(values) == ["ndcg@5", "ndcg@10", "auc"]


def test_a_metric_that_gives_the_wrong_shape_is_refused(ranks):
    from palate.evaluation.metrics import metric

    broken = metric("Broken")(lambda ranks, k: np.zeros(3))
    with pytest.raises(PalateError, match="Broken gave shape"):
        broken(ranks, 5)
    with pytest.raises(PalateError, match="Broken@0"):
        broken(ranks, 0)
