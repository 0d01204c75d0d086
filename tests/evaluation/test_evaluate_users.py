"""Evaluation on a sample of users, what it costs, and cascades as rows of the table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import polars as pl
import pytest
import torch
import typer
from evaluation_helpers import Fixed
from typer.testing import CliRunner
from worlds import random_logs

from palate.cascade.cascade import Cascade
from palate.cascade.choose_weight import choose_blend
from palate.cli.evaluate import evaluate as command
from palate.data.dataset import Dataset
from palate.data.sample import sample_users
from palate.errors import PalateError
from palate.evaluation.candidates import Candidates, sample_candidates
from palate.evaluation.cost import meter
from palate.evaluation.evaluate import evaluate
from palate.evaluation.users import UserSample
from palate.rankers.item_knn import ItemKNN, ItemKNNConfig
from palate.rankers.popularity import Popularity
from palate.rankers.registry import RANKERS
from palate.recommender import Histories, Recommender, as_sequences
from palate.runs.run import Run


class Slow(ItemKNN):
    """item-knn that pretends to be expensive: given candidates only, counted, a few users at a time."""

    name: ClassVar[str] = "slow-knn"
    whole_catalogue: ClassVar[bool] = False
    batch_size: ClassVar[int] = 4
    asked: ClassVar[list[tuple[tuple[int, ...], tuple[int, ...]]]] = []

    def score(self, histories: Histories, candidates: torch.Tensor | None = None) -> torch.Tensor:
        if candidates is None:
            raise PalateError("50 items would take a week", "Give --retriever RUN0.")
        rows = as_sequences(histories)
        assert len(rows) <= self.batch_size
        Slow.asked += [(tuple(h.tolist()), tuple(c.tolist())) for h, c in zip(rows, candidates, strict=True)]
        return super().score(rows, candidates)

    def cost(self) -> dict[str, float]:
        prompts = sum(np.count_nonzero(items) for _, items in Slow.asked)
        return {"prompts": prompts, "tokens": 7 * prompts, "seconds": 0.0}


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    Slow.asked.clear()
    with RANKERS.registered("slow-knn", Slow):
        yield


def call(*words: object) -> str:
    app = typer.Typer()
    app.command("evaluate")(command)
    app.command("other")(lambda: None)
    result = CliRunner().invoke(app, ["evaluate", *map(str, words)])
    if result.exception is not None:
        raise result.exception
    return str(result.stdout)


def save_run(folder: Path, model: Recommender, dataset: Dataset, path: Path, seed: int = 0) -> Path:
    options = model.config.model_dump(mode="json")  # type: ignore[attr-defined]
    run = Run.start(folder, model=model.name, options=options, seed=seed, dataset=dataset, dataset_path=path)
    run.model_folder.mkdir()
    model.save(run.model_folder)
    run.add(finished=True)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("cascade")
    random_logs(users=90, items=50, cold=3).save(place / "data")
    dataset = Dataset.load(place / "data")
    save_run(place / "popular", Popularity.fit(dataset), dataset, place / "data")
    fitted = ItemKNN.fit(dataset, ItemKNNConfig(neighbours=20))
    save_run(place / "nearest", fitted, dataset, place / "data")
    for seed in (0, 1):
        other = ItemKNN.fit(random_logs(users=90, items=50, cold=3, seed=50 + seed), ItemKNNConfig(neighbours=20))
        save_run(place / f"slow-{seed}", Slow(other.similarity, other.config), dataset, place / "data", seed)
    return place


def test_a_sample_keeps_every_users_own_result(place: Path) -> None:
    dataset = Dataset.load(place / "data")
    model = ItemKNN.fit(dataset)
    for options in ({}, {"protocol": "sampled", "negatives": 7, "seed": 3}):
        everyone = evaluate(model, dataset, **options)  # type: ignore[arg-type]
        some = evaluate(model, dataset, users=UserSample(20, seed=5), **options)  # type: ignore[arg-type]
        drawn = dataset.user_ids.gather(sample_users(dataset, 20, 5)).to_list()
        assert some.users() == drawn
        rows = everyone.frame.filter((pl.col("slice") == "all") & pl.col("user_id").is_in(drawn))
        assert some.frame.filter(pl.col("slice") == "all").equals(rows)
        assert some.facts["users"] == {"drawn": 20, "of": 90, "seed": 5}
        assert everyone.facts["users"] is None
    valid = evaluate(model, dataset, split="valid", users=UserSample(20, seed=5))
    assert valid.users() == drawn


def test_a_sample_without_targets_is_refused() -> None:
    dataset = random_logs(users=30)
    parts = dataset.parts.copy()
    drawn = sample_users(dataset, 3, 0)
    parts[np.isin(dataset.rows_user, drawn)] = 0
    held = replace(dataset, parts=parts)
    with pytest.raises(PalateError, match="none of the 3 users drawn with seed 0 has targets"):
        evaluate(Popularity.fit(held), held, users=UserSample(3))


def test_candidates_of_everyone_serve_a_sample_but_not_the_reverse(place: Path, tmp_path: Path) -> None:
    dataset = Dataset.load(place / "data")
    whole = sample_candidates(dataset, "test", negatives=5)
    whole.save(tmp_path / "whole.npz")
    words = (place / "popular", "--protocol", "sampled", "--negatives", 5)
    drawn = json.loads(call(*words, "--users", 10, "--json", "--out", tmp_path / "out"))
    given = json.loads(call(*words, "--users", 10, "--candidates", tmp_path / "whole.npz", "--json"))
    assert given["models"] == drawn["models"]
    assert given["candidates"]["fingerprint"] == drawn["candidates"]["fingerprint"] != whole.fingerprint
    assert len(Candidates.load(tmp_path / "out" / "candidates.npz")) == 10
    with pytest.raises(PalateError, match="made for other users"):
        call(*words, "--candidates", tmp_path / "out" / "candidates.npz")
    with pytest.raises(PalateError, match="made for other users"):
        call(*words, "--users", 11, "--candidates", tmp_path / "out" / "candidates.npz")


def test_the_table_says_who_was_drawn(place: Path) -> None:
    text = call(place / "popular", "--users", 12, "--seed", 4)
    assert "12 of 90 users, drawn with seed 4" in text
    assert "12 of 90 users, drawn with seed 9" in call(place / "popular", "--users", 12, "--users-seed", 9)
    assert json.loads(call(place / "popular", "--users", 500, "--json"))["users"]["drawn"] == 90
    with pytest.raises(PalateError, match="--users-seed draws nobody"):
        call(place / "popular", "--users-seed", 1)


def test_one_and_twenty(place: Path) -> None:
    """The sampled protocol of the multimodal literature: 1 + 20, AUC, and cut-offs from 1 on."""
    facts = json.loads(
        call(
            place / "slow-0",
            place / "nearest",
            "--protocol",
            "sampled",
            "--negatives",
            20,
            "--ks",
            "1,3,5,10",
            "--json",
        )
    )
    assert facts["primary"] == "ndcg@10"
    wanted = {"auc", *(f"{name}@{k}" for name in ("ndcg", "hitrate", "mrr") for k in (1, 3, 5, 10))}
    for model in facts["models"]:
        means = {name: one["mean"] for name, one in model["metrics"].items()}
        assert wanted <= set(means)
        assert means["ndcg@1"] == means["hitrate@1"] == means["mrr@1"] <= means["hitrate@3"]
    assert {len(items) for _, items in Slow.asked} == {21}
    assert facts["costs"]["slow-0"]["prompts"] == 90 * 21
    assert facts["costs"]["slow-0"]["tokens"] == 7 * 90 * 21


def test_equal_scores_come_last_among_candidates() -> None:
    dataset = random_logs(users=40)
    flat = Fixed(torch.zeros(1, dataset.num_items + 1))
    summary = evaluate(flat, dataset, protocol="sampled", negatives=20, ks=[1, 10]).summary()
    assert summary["auc"] == summary["hitrate@10"] == 0


def test_a_list_does_not_begin_with_its_targets() -> None:
    """A model that likes whatever it is shown first must gain nothing by it."""

    class First(Fixed):
        def score(self, histories: Histories, candidates: torch.Tensor | None = None) -> torch.Tensor:
            assert candidates is not None
            return -torch.arange(candidates.shape[1], dtype=torch.float32).expand(candidates.shape)

    dataset = random_logs(users=400, items=60)
    summary = evaluate(First(torch.zeros(1, 61)), dataset, protocol="sampled", negatives=9, ks=[1]).summary()
    assert 0.02 < summary["hitrate@1"] < 0.2  # 0.1 by chance; 1 if targets came first


def test_the_meter_counts_what_grew() -> None:
    class Counted(Fixed):
        prompts = 5.0

        def cost(self) -> dict[str, float]:
            return {"prompts": self.prompts, "seconds": self.prompts}

    model = Counted(torch.zeros(1, 4))
    with meter(model.cost, 3) as facts:
        model.prompts += 2
        held = np.ones(40_000_000, np.uint8)
        del held
    with meter(Fixed(torch.zeros(1, 4)).cost, 3) as lean:
        pass
    assert (facts["users"], facts["prompts"], facts["model_seconds"]) == (3, 2, 2)
    assert facts["peak_memory_mb"] >= lean["peak_memory_mb"]
    assert "prompts" not in lean


def test_cascades_are_rows(place: Path, tmp_path: Path) -> None:
    words = (place / "nearest", place / "slow-0", place / "slow-1", "--retriever", place / "popular", "--depth", 8)
    out = tmp_path / "out"
    text = call(*words, "--blend", 0.5, "--out", out)
    table = json.loads((out / "table.json").read_text())
    assert [row["label"] for row in table["models"]] == [
        "popular",
        "random re-rank of popular",
        "nearest",
        "slow re-ranking popular",
        "slow blended",
    ]
    assert table["base"] == "popular"
    by_label = {row["label"]: row for row in table["models"]}
    assert by_label["slow blended"]["seeds"] == [0, 1]
    for label in ("slow re-ranking popular", "slow blended", "random re-rank of popular", "nearest"):
        assert by_label[label]["differences"]["ndcg@10"]["low"] is not None
    # Nobody was asked twice: not for the blend, not for a slice. Two runs, ninety users, one list each.
    assert len(Slow.asked) == len(set(Slow.asked)) * 2 == 180
    assert table["costs"]["slow blended"]["prompts"] == table["costs"]["slow re-ranking popular"]["prompts"]
    # The ceiling, by hand.
    dataset = Dataset.load(place / "data")
    cases = dataset.cases("test")
    items, _ = Popularity.fit(dataset).recommend(cases.histories, 8)
    hit = np.mean([target[0] in row for target, row in zip(cases.targets, items.tolist(), strict=True)])
    assert table["cascade"]["ceiling"]["recall@8"]["mean"] == pytest.approx(hit)
    assert f"Ceiling: recall@8 of popular is {hit:.4f} [" in text
    assert f"Ceiling: recall@8 of popular is {hit:.4f} [" in (out / "table.md").read_text()
    assert "weight 0.5, 0.5" in text
    assert "Cost of scoring, per 1,000 users" in text
    assert "Cost of scoring, per 1,000 users" in (out / "table.md").read_text()
    # No re-ranking finds more among the proposed than was proposed; all find the same among as many as the depth.
    at_depth = json.loads(call(*words, "--ks", 8, "--blend", 0.5, "--json"))
    rows = {row["label"]: row["metrics"]["recall@8"]["mean"] for row in at_depth["models"]}
    for label in ("random re-rank of popular", "slow re-ranking popular", "slow blended"):
        assert rows[label] == pytest.approx(hit)


def test_re_ranking_is_what_the_cascade_says(place: Path) -> None:
    dataset = Dataset.load(place / "data")
    facts = json.loads(call(place / "slow-0", "--retriever", place / "popular", "--depth", 8, "--json", "--keep-seen"))
    assert facts["name"] == "peer (history kept)"
    slow = Slow.load(place / "slow-0" / "model")
    cascade = Cascade(Popularity.fit(dataset), slow, depth=8, exclude_seen=False)
    wanted = evaluate(cascade, dataset, exclude_seen=False).summary()["ndcg@10"]
    assert facts["models"][-1]["metrics"]["ndcg@10"]["mean"] == pytest.approx(wanted)


def test_a_retriever_that_is_a_row_already_stays_one(place: Path) -> None:
    words = (place / "slow-0", place / "popular", "--retriever", place / "popular", "--users", 15, "--json")
    facts = json.loads(call(*words))
    assert [row["label"] for row in facts["models"]] == [
        "popular",
        "random re-rank of popular",
        "slow-0 re-ranking popular",
    ]
    assert facts["users"]["drawn"] == 15
    assert len(Slow.asked) == 15
    assert json.loads(call(*words, "--base", place / "slow-0"))["base"] == "slow-0 re-ranking popular"
    assert json.loads(call(*words, "--base", "random re-rank of popular"))["base"] == "random re-rank of popular"


def test_the_weight_is_chosen_on_validation(place: Path) -> None:
    words = (place / "slow-0", "--retriever", place / "nearest", "--depth", 10, "--blend", "valid", "--json")
    facts = json.loads(call(*words))
    (chosen,) = facts["cascade"]["blends"]["slow-0 blended"]
    assert chosen["metric"] == "ndcg@10"
    assert len(chosen["grid"]) == 11
    assert chosen["grid"][f"{chosen['weight']:g}"] == max(chosen["grid"].values())
    # Once for validation and once for the test, for every user.
    assert len(Slow.asked) == len(set(Slow.asked)) == 180
    dataset = Dataset.load(place / "data")
    cascade = Cascade(ItemKNN.load(place / "nearest" / "model"), Slow.load(place / "slow-0" / "model"), depth=10)
    blend = choose_blend(cascade, dataset)
    assert (blend.weight, blend.values[0.3]) == (chosen["weight"], pytest.approx(chosen["grid"]["0.3"]))
    alone = evaluate(cascade.variant("rerank"), dataset, split="valid").summary()["ndcg@10"]
    assert blend.values[1.0] == pytest.approx(alone)


def test_sampled_candidates_are_blended_without_being_proposed(place: Path) -> None:
    words = (place / "slow-0", "--retriever", place / "popular", "--protocol", "sampled", "--negatives", 60, "--json")
    facts = json.loads(call(*words, "--blend", 0.3))
    rows = {row["label"]: row["metrics"]["ndcg@10"]["mean"] for row in facts["models"]}
    assert list(rows) == ["slow-0", "popular", "slow-0 blended"]
    assert facts["base"] == "popular"
    assert len(Slow.asked) == 90  # the blended row finds every list scored
    dataset = Dataset.load(place / "data")
    cascade = Cascade(Popularity.fit(dataset), Slow.load(place / "slow-0" / "model"), depth=60)
    options = {"protocol": "sampled", "negatives": 60}
    for label, model in (
        ("slow-0", cascade.second),
        ("popular", cascade.retriever),
        ("slow-0 blended", cascade.variant("blend", 0.3)),
    ):
        assert rows[label] == pytest.approx(evaluate(model, dataset, **options).summary()["ndcg@10"])  # type: ignore[arg-type]
    assert any(note.startswith("slow-0 blended: weight 0.3 of") for note in facts["notes"])

    Slow.asked.clear()
    facts = json.loads(call(*words, "--blend", "valid", "--metrics", "auc"))
    (chosen,) = facts["cascade"]["blends"]["slow-0 blended"]
    assert chosen["metric"] == "auc"
    assert len(Slow.asked) == len(set(Slow.asked)) == 180
    drawn = sample_candidates(dataset, "valid", negatives=60)
    alone = evaluate(cascade.second, dataset, split="valid", protocol="sampled", candidates=drawn).summary()["auc"]
    assert chosen["grid"]["1"] == pytest.approx(alone)

    drawn.save(place / "drawn.npz")
    with pytest.raises(PalateError, match="a file has those of one split"):
        call(*words, "--blend", "valid", "--candidates", place / "drawn.npz")


def test_a_useful_second_stage_is_given_weight(place: Path) -> None:
    """One that knows the validation targets gets all of it, one that knows nothing but noise gets none."""
    dataset = Dataset.load(place / "data")
    answers = {tuple(h.tolist()): int(t[0]) for h, t in zip(*_valid(dataset), strict=True)}

    class Knows(Fixed):
        sign = 1.0

        def score(self, histories: Histories, candidates: torch.Tensor | None = None) -> torch.Tensor:
            assert candidates is not None
            wanted = torch.tensor([answers[tuple(row.tolist())] for row in as_sequences(histories)])
            return self.sign * (candidates == wanted[:, None]).float()

    knows = Knows(torch.zeros(1, 51))
    retriever = Popularity.fit(dataset)
    for_sure = choose_blend(Cascade(retriever, knows, depth=10), dataset)
    assert for_sure.values[1.0] == max(for_sure.values.values()) > for_sure.values[0.0]
    knows.sign = -1.0
    against = choose_blend(Cascade(retriever, knows, depth=10), dataset)
    assert against.weight == 0
    with pytest.raises(PalateError, match="'ndcg@x' is no metric"):
        choose_blend(Cascade(retriever, knows), dataset, metric="ndcg@x")


def _valid(dataset: Dataset) -> tuple[object, object]:
    cases = dataset.cases("valid")
    return cases.histories, cases.targets


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--protocol", "sampled"], "sampled candidates need nobody to propose them"),
        (["--blend", "much"], "Give a number from 0 to 1, valid or none"),
        (["--blend", "1.5"], "a weight is from 0 to 1"),
        (["--blend", "valid", "--split", "valid"], "on the cases that it is judged by"),
        (["--base", "poplar"], "Did you mean 'popular'"),
    ],
)
def test_mistakes_are_told_before_any_work(
    place: Path, words: list[str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("palate.cascade.rows.load_recommender", None)
    with pytest.raises(PalateError, match=told):
        call(place / "slow-0", "--retriever", place / "popular", *words)


def test_retrievers_that_make_no_sense(place: Path, tmp_path: Path) -> None:
    with pytest.raises(PalateError, match="none of the runs needs a retriever"):
        call(place / "nearest", "--retriever", place / "popular")
    with pytest.raises(PalateError, match="needs a retriever itself"):
        call(place / "slow-0", "--retriever", place / "slow-1")
    with pytest.raises(PalateError, match=r"there is none.*--retriever RUN0"):
        call(place / "slow-0", "--blend", "0.5")
    with pytest.raises(PalateError, match=r"50 items would take a week. Give --retriever RUN0"):
        call(place / "slow-0")
    other = random_logs(users=90, items=51, cold=3)
    save_run(tmp_path / "other", Popularity.fit(other), other, place / "data")
    with pytest.raises(PalateError, match="have different catalogues"):
        call(place / "slow-0", "--retriever", tmp_path / "other")
