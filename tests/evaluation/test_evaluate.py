"""Whole evaluations and comparisons, against figures made by hand or by plain loops."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from evaluation_helpers import Fixed
from worlds import random_logs

from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.evaluation.candidates import sample_candidates
from palate.evaluation.compare import Group, compare
from palate.evaluation.evaluate import evaluate
from palate.evaluation.metrics import METRICS, metric
from palate.evaluation.ranking import rank_targets
from palate.evaluation.result import Result
from palate.evaluation.slices import COLD_AMONG_COLD, item_slices
from palate.evaluation.tables import main_table, seed_table, slice_table, to_json, to_markdown
from palate.recommender import Recommender
from palate.training.fit import train


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return random_logs(users=80, items=60, tests=2, cold=4)


def random_model(dataset: Dataset, seed: int, boost: float = 0.0) -> Recommender:
    """Random scores; ``boost`` lifts what is popular."""
    table = torch.randn(20, dataset.num_items + 1, generator=torch.Generator().manual_seed(seed))
    return Fixed(table + boost * torch.from_numpy(dataset.train_counts).float())


def test_a_notebook_shows_figures_not_arrays(dataset: Dataset) -> None:
    result = evaluate(random_model(dataset, 0), dataset, ks=[10])
    assert repr(dataset) == f"Dataset({dataset.name}: 80 users, 60 items, {len(dataset):,} interactions)"
    assert repr(result).startswith(f"Result({len(result.users())} users: ndcg@10 {result.summary()['ndcg@10']:.4f}, ")
    table = compare([Group("a", (result,), (0,)), Group("b", (result,), (0,))], base="b")
    mean = f"{result.summary()['ndcg@10']:.4f}"
    assert repr(table) == f"Comparison(ndcg@10, base b: a {mean}, b {mean})"


def test_a_dataset_may_be_a_folder_and_lists_are_lists(dataset: Dataset, tmp_path: Path) -> None:
    dataset.save(tmp_path / "data")
    run = train(tmp_path / "data", model="popularity", out=tmp_path / "run")
    found = evaluate(run, tmp_path / "data", ks=[10])
    assert found.summary() == evaluate(run, Dataset.load(tmp_path / "data"), ks=[10]).summary()
    with pytest.raises(PalateError, match="unknown section 'epochs'"):
        train(dataset, model="sasrec", out=tmp_path / "no", settings={"epochs": 3})  # type: ignore[dict-item]
    with pytest.raises(PalateError, match=r"the section 'trainer' of the settings is 3\. Options belong in it"):
        train(dataset, model="sasrec", out=tmp_path / "no", settings={"trainer": 3})  # type: ignore[dict-item]
    with pytest.raises(PalateError, match=r"metrics is the text 'ndcg', .* Write metrics=\['ndcg'\]"):
        evaluate(run, dataset, metrics="ndcg")
    with pytest.raises(PalateError, match=r"ks is 10, .* Write ks=\[10\]"):
        evaluate(run, dataset, ks=10)  # type: ignore[arg-type]
    with pytest.raises(PalateError, match=r"ks is '5,10', .* Write ks=\[5,10\]"):
        evaluate(run, dataset, ks="5,10")  # type: ignore[arg-type]
    with pytest.raises(PalateError, match=r"cut-offs \[1\.5\] make no sense\. Give whole numbers"):
        evaluate(run, dataset, ks=[1.5])  # type: ignore[list-item]


def test_figures_are_those_of_the_ranks(dataset):
    model, cases = random_model(dataset, 0), dataset.cases("test")
    result = evaluate(model, dataset, ks=[10, 5])
    ranks = rank_targets(model, cases, exclude_seen=True)
    for name in ("ndcg", "recall", "hitrate", "mrr", "map"):
        for k in (5, 10):
            np.testing.assert_allclose(result.values(f"{name}@{k}"), METRICS[name](ranks, k))
    assert result.users() == [dataset.user_ids[int(user)] for user in cases.users]
    shown = set(model.recommend(cases.histories, 5)[0].flatten().tolist())
    assert result.totals["coverage@5"] == len(shown) / dataset.num_items
    assert result.summary()["ndcg@10"] == pytest.approx(METRICS["ndcg"](ranks, 10).mean())


def test_slices_hold_the_right_users_and_targets(dataset):
    result = evaluate(random_model(dataset, 0), dataset, metrics=["recall"], ks=[10])
    cases, counts = dataset.cases("test"), dataset.train_counts
    recall = dict(zip(result.users(), result.values("recall@10"), strict=True))
    frame = result.frame
    cold_users = [
        dataset.user_ids[int(user)]
        for user, row in zip(cases.users, cases.targets, strict=True)
        if (counts[row] == 0).any()
    ]
    assert cold_users
    assert result.users("cold items") == cold_users == result.users(COLD_AMONG_COLD)
    tail = frame.filter(pl.col("slice") == "tail items, <= 5")
    expected = [sum(counts[row] <= 5) for row in cases.targets if (counts[row] <= 5).any()]
    assert tail["targets"].to_list() == expected
    spans = {"histories <= 3": (0, 3), "histories 4-10": (4, 10), "histories > 10": (11, 999)}
    for name, (low, high) in spans.items():
        inside = [u for u, n in zip(result.users(), cases.histories.lengths, strict=True) if low <= n <= high]
        if inside:
            assert result.users(name) == inside
            assert result.values("recall@10", name).tolist() == [recall[user] for user in inside]
    assert sum(len(result.users(name)) for name in spans if name in result.slices) == len(cases)


def test_among_cold_items_only_cold_items_compete(dataset):
    table = torch.zeros(1, dataset.num_items + 1)
    cold = torch.from_numpy(dataset.train_counts == 0)
    table[0, cold] = torch.arange(int(cold.sum())).float() - 100.0  # below every warm item
    result = evaluate(Fixed(table), dataset, metrics=["recall", "ndcg"], ks=[len(table[0]), int(cold[1:].sum())])
    k = int(cold[1:].sum())
    assert result.values(f"recall@{k}", COLD_AMONG_COLD).tolist() == [1.0] * len(result.users("cold items"))
    assert result.values(f"recall@{k}", "cold items").sum() == 0


def test_tail_is_the_bottom_of_the_catalogue():
    counts = np.array([0, 9, 0, 5, 6, 5, 7, 8, 1, 2, 3])
    small, rare, often, bottom, cold = item_slices(counts)
    assert np.flatnonzero(small.items).tolist() == [2, 3, 5, 8, 9, 10]
    assert np.flatnonzero(rare.items).tolist() == [3, 5, 8, 9, 10]
    assert np.flatnonzero(often.items).tolist() == [1, 4, 6, 7]
    assert np.flatnonzero(bottom.items).tolist() == [2, 3, 4, 5, 6, 8, 9, 10]  # without the two most popular
    assert np.flatnonzero(cold.items).tolist() == [2]


def test_sampled_protocol_measures_the_given_candidates(dataset):
    model = random_model(dataset, 0)
    made = sample_candidates(dataset, "valid", negatives=20, seed=3)
    result = evaluate(model, dataset, split="valid", protocol="sampled", candidates=made)
    same = evaluate(model, dataset, split="valid", protocol="sampled", negatives=20, seed=3)
    assert result.facts["candidates"]["fingerprint"] == same.facts["candidates"]["fingerprint"] == made.fingerprint
    assert result.frame.equals(same.frame)
    ranks = rank_targets(model, dataset.cases("valid"), exclude_seen=True, candidates=made)
    np.testing.assert_allclose(result.values("auc"), METRICS["auc"](ranks))
    assert COLD_AMONG_COLD not in result.slices
    assert "sampled (1 + 20 uniform)" in result.facts["name"]


def test_a_short_draw_is_told():
    small = random_logs(users=30, items=24, cold=0)
    cases = small.cases("test")
    unseen = np.array(
        [24 - len(set(h) | set(t)) for h, t in zip(cases.histories.to_lists(), cases.targets.to_lists(), strict=True)]
    )
    model = Fixed(torch.randn(20, 25, generator=torch.Generator().manual_seed(0)))
    result = evaluate(model, small, protocol="sampled", negatives=1000)
    facts = result.facts["candidates"]
    assert facts["mean_negatives"] == pytest.approx(unseen.mean(), abs=0.005)
    assert facts["least_negatives"] == unseen.min()
    assert result.facts["name"] == f"sampled (1 + at most 1000 uniform, {facts['mean_negatives']:g} on average)"
    text = to_markdown(compare([Group("small", (result,), (0,))]))
    assert result.facts["name"] in text
    assert f"{facts['mean_negatives']} negatives per user on average, at least {unseen.min()}." in text
    enough = evaluate(model, small, protocol="sampled", negatives=5)
    assert enough.facts["name"] == "sampled (1 + 5 uniform)"
    assert (enough.facts["candidates"]["mean_negatives"], enough.facts["candidates"]["least_negatives"]) == (5.0, 5)
    assert "items left to draw" not in to_markdown(compare([Group("small", (enough,), (0,))]))


def test_the_protocol_has_a_name(dataset):
    model = random_model(dataset, 0)
    assert evaluate(model, dataset, ks=[5]).facts["name"] == "product (history excluded)"
    assert evaluate(model, dataset, ks=[5], exclude_seen=False).facts["name"] == "peer (history kept)"


def test_saved_and_read_again(dataset, tmp_path):
    result = evaluate(random_model(dataset, 0), dataset, protocol="sampled", negatives=5)
    result.save(tmp_path / "result")
    read = Result.load(tmp_path / "result")
    assert read.frame.equals(result.frame)
    assert read.totals == result.totals
    assert read.facts == json.loads(json.dumps(result.facts))
    assert read.candidates is not None
    assert read.candidates.fingerprint == result.facts["candidates"]["fingerprint"]
    with pytest.raises(PalateError, match="does not exist"):
        Result.load(tmp_path)


class Expensive(Fixed):
    """A model that cannot afford the catalogue."""

    def score(self, histories, candidates=None):
        if candidates is None:
            raise PalateError("scoring 60 items takes 3 hours", "Use --protocol sampled.")
        return super().score(histories, candidates)


def test_refusals(dataset):
    model = random_model(dataset, 0)
    with pytest.raises(PalateError, match="takes 3 hours"):
        evaluate(Expensive(model.table), dataset)
    assert len(evaluate(Expensive(model.table), dataset, protocol="sampled", negatives=5).frame)
    with pytest.raises(PalateError, match="coverage looks at recommended lists"):
        evaluate(model, dataset, protocol="sampled", metrics=["ndcg", "coverage"])
    with pytest.raises(PalateError, match=r"no metric named 'ndgc'.*Did you mean 'ndcg'"):
        evaluate(model, dataset, metrics=["ndgc"])
    with pytest.raises(PalateError, match=r"no protocol 'ful'.*Did you mean 'full'"):
        evaluate(model, dataset, protocol="ful")
    with pytest.raises(PalateError, match="no split 'train'"):
        evaluate(model, dataset, split="train")
    with pytest.raises(PalateError, match="make no sense"):
        evaluate(model, dataset, ks=[0, 5])
    with pytest.raises(PalateError, match="knows 59 items, the dataset has 60"):
        evaluate(Fixed(model.table[:, :-1]), dataset)
    with pytest.raises(PalateError, match="a figure a user"):
        evaluate(model, dataset, metrics=["coverage"])
    train_only = replace(dataset, parts=np.zeros_like(dataset.parts))
    with pytest.raises(PalateError, match="has no test targets"):
        evaluate(model, train_only)


def test_a_users_own_metric_takes_part(dataset):
    @metric("First place", at_k=False)
    def first(ranks, k):
        return ranks.best == 1

    with METRICS.registered("first", first):
        result = evaluate(random_model(dataset, 0), dataset, metrics=["ndcg", "first"])
        assert set(np.unique(result.values("first"))) <= {0.0, 1.0}
        METRICS.register("first", lambda ranks, k: None)
        with pytest.raises(PalateError, match="'first' is no metric"):
            evaluate(random_model(dataset, 0), dataset, metrics=["ndcg", "first"])


@pytest.fixture(scope="module")
def groups(dataset) -> list[Group]:
    def group(label: str, boost: float, seeds: tuple[int, ...]) -> Group:
        results = tuple(evaluate(random_model(dataset, seed, boost), dataset, ks=[10]) for seed in seeds)
        return Group(label, results, seeds)

    return [group("base", 0.0, (1, 2, 3)), group("better", 3.0, (2, 3, 4)), group("one", 0.0, (9,))]


def test_comparison_is_paired_by_user_and_seed(groups):
    comparison = compare(groups)
    better = comparison.row("better").differences["ndcg@10"]
    assert better.paired_seeds == [2, 3]
    a, b = groups[1].values("ndcg@10"), groups[0].values("ndcg@10")
    assert better.estimate.mean == pytest.approx((a[:2] - b[1:]).mean())
    assert comparison.row("one").differences["ndcg@10"].paired_seeds == [1, 2, 3]
    assert comparison.row("base").differences == {}
    base = comparison.row("base").estimates["ndcg@10"]
    assert base.low < base.mean < base.high
    p = [comparison.row(label).differences["ndcg@10"].estimate.p_value for label in ("better", "one")]
    adjusted = [comparison.row(label).differences["ndcg@10"].holm for label in ("better", "one")]
    assert min(adjusted) == pytest.approx(min(2 * min(p), 1.0))
    assert comparison.primary == "ndcg@10"


def test_another_base_turns_the_sign(groups):
    forward = compare(groups).row("better").differences["ndcg@10"].estimate
    backward = compare(groups, base="better").row("base").differences["ndcg@10"].estimate
    assert backward.mean == pytest.approx(-forward.mean)
    assert backward.low == pytest.approx(-forward.high)


def test_tables_say_what_was_computed(groups):
    comparison = compare(groups)
    table = main_table(comparison)
    assert [row[0] for row in table.rows] == ["base", "better", "one"]
    assert [row[1] for row in table.rows] == ["3", "3", "1"]
    one = comparison.row("better").estimates["ndcg@10"]
    assert table.rows[1][2] == f"{one.mean:.4f} [{one.low:.4f}, {one.high:.4f}]"
    assert {len(row) for row in table.rows} == {len(table.headers)}
    assert seed_table(comparison).headers == ["model", "seed 1", "seed 2", "seed 3", "seed 4", "seed 9"]
    assert [row[0] for row in slice_table(comparison).rows] == list(comparison.slices)
    text = to_markdown(comparison)
    assert "product (history excluded)" in text
    assert "true difference" in text
    assert groups[0].results[0].facts["dataset"]["fingerprint"] in text
    facts = json.loads(json.dumps(to_json(comparison), allow_nan=False))
    assert facts["models"][1]["metrics"]["ndcg@10"]["by_seed"] == comparison.row("better").by_seed["ndcg@10"]
    assert set(facts["slices"]) == set(comparison.slices)


def test_unlike_evaluations_are_not_compared(dataset, groups):
    peer = evaluate(random_model(dataset, 1), dataset, ks=[10], exclude_seen=False)
    with pytest.raises(PalateError, match="'peer' was not evaluated like 'base'"):
        compare([groups[0], Group("peer", (peer,), (1,))])
    with pytest.raises(PalateError, match=r"the base 'bas' is none.*Did you mean 'base'"):
        compare(groups, base="bas")
    with pytest.raises(PalateError, match="'ndcg@5' was not measured"):
        compare(groups, primary="ndcg@5")
    with pytest.raises(PalateError, match="nothing to compare"):
        compare([])
