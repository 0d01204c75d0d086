"""Runs without a validation of their own are validated on users whose targets they have not learnt."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from palate.data.dataset import Dataset
from palate.data.frames import from_frames
from palate.errors import PalateError
from palate.evaluation.settings import EvaluationSettings
from palate.experiments.plan import CheckedOptions, ComparisonPlan, Selection
from palate.experiments.read_recipe import read_recipe
from palate.experiments.runner import ComparisonRunner
from palate.experiments.tune import tune
from palate.experiments.tune_recipe import TuneRecipe
from palate.experiments.validated import validated
from palate.rankers.registry import load_recommender
from palate.runs.run import Run
from palate.training.fit import train
from palate.training.refit import refit
from palate.training.validation import Validation

DAY = 86_400_000
START = 1_600_000_000_000


@dataclass
class World:
    """A log as it was, the same one later, and a refit on all of the first: half of the users came back since."""

    before: Dataset
    after: Dataset
    whole: Run


@pytest.fixture
def world(tmp_path: Path) -> World:
    rows = [
        (f"u{user}", f"i{item}", START + DAY * step + user)
        for user in range(24)
        for step, item in enumerate(np.random.default_rng(user).permutation(12)[: 8 if user % 2 == 0 else 6])
    ]
    log = pl.DataFrame(rows, schema=["user", "item", "timestamp"], orient="row")
    for name, part in (("before", log.filter(pl.col("timestamp") < START + 6 * DAY)), ("after", log)):
        from_frames(part, timestamp="timestamp", time_unit="ms", name=name).save(tmp_path / name)
    before, after = (Dataset.load(tmp_path / name) for name in ("before", "after"))
    counted = train(before, model="item-knn", out=tmp_path / "counted", dataset_path=before.folder)
    return World(before, after, refit(counted, before, out=tmp_path / "whole"))


def test_users_whose_targets_a_refit_has_learnt_are_left_out(world: World) -> None:
    everybody = Validation(world.after, "ndcg@5", True)
    label, value = validated(world.whole, world.after, "ndcg@5", exclude_seen=True)
    left = Validation(world.after, "ndcg@5", True)
    left.leave_out(world.after, world.whole)
    assert len(left.cases) == 12 < len(everybody.cases)
    model = load_recommender(world.whole)
    assert (label, value) == ("NDCG@5", left(model)["NDCG@5"])
    assert value != everybody(model)["NDCG@5"]
    with pytest.raises(PalateError, match="has seen the valid targets"):
        validated(world.whole, world.before, "ndcg@5", exclude_seen=True)


def test_compare_chooses_by_the_users_that_are_left(world: World, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('[compare]\n[arm.all]\nmodel = "item-knn"\n')
    recipe = read_recipe(tmp_path / "r.toml")

    def read(command: str, table: dict[str, Any], where: str) -> CheckedOptions:
        return CheckedOptions([json.dumps(table)], table)

    plan = ComparisonPlan(recipe, Selection(["all"], [0], 1, []), tmp_path / "out", "data", read)
    measure = EvaluationSettings("full", True, None, [5], "ndcg@5", "uniform", 100, "cpu", 0)
    runner = ComparisonRunner(plan, world.after, measure)
    assert runner._value(world.whole) == validated(world.whole, world.after, "ndcg@5", exclude_seen=True)


def test_a_trial_of_tune_that_has_learnt_the_targets_has_no_value(world: World, tmp_path: Path) -> None:
    table = {"model": "item-knn", "search": {"ranker.shrinkage": {"choices": [1.0, 2.0]}}}
    recipe = TuneRecipe.parse(table, where="test.toml [tune]")

    def learnt(dataset: Dataset, **given: Any) -> Run:
        return world.whole

    study = tune(world.before, recipe, trials=2, out=tmp_path / "study", train=learnt)
    assert study.best is None
    assert all("has seen the valid targets" in row["error"] for row in study.trials)
