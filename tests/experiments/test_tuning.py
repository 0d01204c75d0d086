"""Searching for settings: the space, the budget, resuming, pruning, and that the test split is out of reach."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from palate.config import Config
from palate.data.dataset import Dataset
from palate.data.frames import from_frames
from palate.errors import PalateError
from palate.experiments.study_report import save_report
from palate.experiments.tune import Study, ValidationOnly, tune
from palate.experiments.tune_recipe import TuneRecipe, read_tune_recipe
from palate.runs.run import Run
from palate.storage.files import write_json
from palate.storage.toml import read_toml
from palate.training.fit import train as real_train

SEARCH = {
    "ranker.dropout": {"low": 0.1, "high": 0.6, "step": 0.1},
    "ranker.layers": {"low": 1, "high": 3},
    "ranker.norm": {"choices": ["pre", "post"]},
    "trainer.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
}


def recipe(**changes: Any) -> TuneRecipe:
    table = {"model": "sasrec", "epochs": 4, "startup_trials": 3, "prune_after": 1, "search": SEARCH, **changes}
    return TuneRecipe.parse(table, where="test.toml [tune]")


@pytest.fixture(scope="module")
def walks() -> Dataset:
    log = pl.DataFrame(
        [(f"u{u}", f"i{(u + s) % 9}") for u in range(30) for s in range(5 + u % 3)],
        schema=["user", "item"],
        orient="row",
    )
    return from_frames(log, name="walks")


class FakeTraining:
    """Stands in for training: a made-up curve that is best at dropout 0.3 and layers 2, and a run folder."""

    def __init__(
        self,
        curve: Callable[[dict[str, Any]], list[float]] | None = None,
        dies_at: int | None = None,
        per_epoch: int = 1,
    ) -> None:
        self.calls: list[dict[str, Any]] = []
        self.epochs: list[int] = []
        self.curve = curve or self._default
        self.dies_at = dies_at
        self.per_epoch = per_epoch

    @staticmethod
    def _default(settings: dict[str, Any]) -> list[float]:
        ranker = settings["ranker"]
        top = 0.5 - abs(ranker["dropout"] - 0.3) - 0.1 * abs(ranker["layers"] - 2)
        return [top - 0.05, top, top - 0.02, top - 0.03]

    def __call__(self, dataset: Dataset, **given: Any) -> Run:
        folder, settings = Path(given["out"]), given["settings"]
        metrics = folder / "metrics.jsonl"
        done = metrics.read_text().splitlines() if metrics.exists() else []
        self.calls.append({**given, "dataset": dataset, "begins_at": len(done)})
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "run.json", {"format": 1})
        for epoch, value in enumerate(self.curve(settings), start=1):
            if epoch <= len(done):
                continue
            row = {"epoch": epoch / self.per_epoch, "loss": 1.0, "NDCG@10": value}
            with metrics.open("a") as file:
                file.write(json.dumps(row) + "\n")
            if self.dies_at is not None and len(self.calls) == self.dies_at and epoch == 2:
                raise KeyboardInterrupt  # not an Exception: what a kill looks like from inside
            given["on_epoch"](row)
        self.epochs.append(epoch)
        return Run(folder, {"format": 1})


def search(walks: Dataset, out: Path, fake: FakeTraining, trials: int, **changes: Any) -> Study:
    return tune(walks, recipe(**changes), trials=trials, out=out, seed=1, train=fake)


def proposals(study: Study) -> list[tuple[str, dict[str, Any], float | None]]:
    return [(row["state"], row["params"], row["value"]) for row in study.trials]


def test_the_best_epoch_of_the_best_trial_wins(walks: Dataset, tmp_path: Path) -> None:
    study = search(walks, tmp_path, FakeTraining(), 8)
    assert len(study.trials) == 8
    complete = [row for row in study.trials if row["state"] == "complete"]
    assert study.best is not None
    assert study.best["value"] == max(row["value"] for row in complete)
    assert study.best["epoch"] == 2
    assert {row["params"]["ranker.norm"] for row in study.trials} == {"pre", "post"}
    for row in study.trials:
        assert 1e-4 <= row["params"]["trainer.learning_rate"] <= 1e-2
        assert row["params"]["ranker.layers"] in (1, 2, 3)


@pytest.mark.parametrize(("keep", "epoch"), [("best", 1.5), ("last", 2)])
@pytest.mark.parametrize("pruner", ["none", "median"])
def test_the_validation_of_the_weights_that_are_kept_counts(
    walks: Dataset, tmp_path: Path, keep: str, epoch: float, pruner: str, recwarn: pytest.WarningsRecorder
) -> None:
    """Two validations per epoch: the best one is in the middle of the second epoch."""
    fake = FakeTraining(lambda _: [0.1, 0.2, 0.4, 0.3], per_epoch=2)
    study = search(walks, tmp_path, fake, 2, settings={"trainer": {"keep": keep}}, pruner=pruner)
    assert study.best is not None
    assert (study.best["epoch"], study.best["value"]) == (epoch, 0.4 if keep == "best" else 0.3)
    assert not [one for one in recwarn if "already reported" in str(one.message)]


def test_every_trial_is_trained_with_its_settings_and_the_same_seed(walks: Dataset, tmp_path: Path) -> None:
    fake = FakeTraining()
    study = search(walks, tmp_path, fake, 4, settings={"ranker": {"dim": 16}}, pruner="none")
    for call, row in zip(fake.calls, study.trials, strict=True):
        assert call["seed"] == 1
        assert call["settings"]["ranker"]["dim"] == 16
        assert call["settings"]["ranker"]["layers"] == row["params"]["ranker.layers"]
        assert call["settings"]["trainer"]["epochs"] == 4
        assert call["settings"]["trainer"]["metric"] == "NDCG@10"
        assert (tmp_path / row["run"] / "run.json").is_file()


def test_the_test_split_is_out_of_reach(walks: Dataset, tmp_path: Path) -> None:
    fake = FakeTraining()
    search(walks, tmp_path, fake, 1)
    given = fake.calls[0]["dataset"]
    assert isinstance(given, ValidationOnly)
    assert len(given.cases("valid")) == len(walks.cases("valid"))
    assert given.fingerprint == walks.fingerprint  # so that its runs can be evaluated on the dataset afterwards
    with pytest.raises(PalateError, match="may not look at the test split"):
        given.cases("test")


def test_more_trials_go_on_and_fewer_do_nothing(walks: Dataset, tmp_path: Path) -> None:
    search(walks, tmp_path, FakeTraining(), 3)
    again = FakeTraining()
    study = search(walks, tmp_path, again, 5)
    assert (len(study.trials), len(again.calls)) == (5, 2)
    nothing = FakeTraining()
    assert len(search(walks, tmp_path, nothing, 2).trials) == 5
    assert nothing.calls == []


def test_a_killed_search_proposes_what_an_unbroken_one_does(walks: Dataset, tmp_path: Path) -> None:
    unbroken = search(walks, tmp_path / "unbroken", FakeTraining(), 7)
    for dies_at in (1, 3):
        with pytest.raises(KeyboardInterrupt):
            search(walks, tmp_path / "killed", FakeTraining(dies_at=dies_at), 7)
    goes_on = FakeTraining()
    killed = search(walks, tmp_path / "killed", goes_on, 7)
    assert proposals(killed) == proposals(unbroken)
    # The interrupted trial went on in its own folder, at the epoch after the last complete one.
    assert goes_on.calls[0]["resume"] is True
    assert goes_on.calls[0]["begins_at"] == 2
    # Interrupted trials have no numbers of their own: of 7 trials the last is the seventh, and so is its folder.
    assert [row["trial"] for row in killed.trials] == list(range(7))
    assert [row["run"] for row in killed.trials] == [f"trials/{number:04d}" for number in range(7)]


def test_a_bad_curve_ends_early(walks: Dataset, tmp_path: Path) -> None:
    fake = FakeTraining(curve=lambda settings: [0.1 if settings["ranker"]["layers"] == 3 else 0.5] * 4)
    study = search(walks, tmp_path, fake, 10, sampler="random")
    pruned = [row for row in study.trials if row["state"] == "pruned"]
    assert pruned
    assert all(row["params"]["ranker.layers"] == 3 and row["epoch"] < 4 for row in pruned)
    assert study.best is not None
    assert study.best["params"]["ranker.layers"] < 3


@pytest.mark.parametrize(("pruner", "some"), [("none", False), ("hyperband", True)])
def test_other_pruners(walks: Dataset, tmp_path: Path, pruner: str, some: bool) -> None:
    fake = FakeTraining(curve=lambda settings: [settings["ranker"]["dropout"]] * 4)
    study = search(walks, tmp_path, fake, 12, pruner=pruner, sampler="random")
    assert any(row["state"] == "pruned" for row in study.trials) is some


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_a_search_in_two_halves_ends_like_a_whole_one(walks: Dataset, tmp_path: Path, pruner: str) -> None:
    def fake() -> FakeTraining:
        return FakeTraining(curve=lambda settings: [settings["ranker"]["dropout"]] * 4)

    whole = search(walks, tmp_path / "whole", fake(), 12, pruner=pruner)
    search(walks, tmp_path / "halves", fake(), 6, pruner=pruner)
    halves = search(walks, tmp_path / "halves", fake(), 12, pruner=pruner)
    assert any(row["state"] == "pruned" for row in whole.trials)
    assert halves.trials == whole.trials


def test_few_combinations_are_all_tried_once(walks: Dataset, tmp_path: Path) -> None:
    space = {"ranker.layers": [1, 2], "ranker.norm": ["pre", "post"]}
    one = search(walks, tmp_path, FakeTraining(curve=lambda settings: [0.5]), 1, search=space)
    assert len(one.trials) == 1
    study = search(walks, tmp_path, FakeTraining(curve=lambda settings: [0.5]), 9, search=space)
    tried = [tuple(row["params"].values()) for row in study.trials]
    assert sorted(tried) == [(1, "post"), (1, "pre"), (2, "post"), (2, "pre")]


def test_the_searched_arm_of_a_comparison_is_the_same_search(tmp_path: Path) -> None:
    path = tmp_path / "search.toml"
    path.write_text("""
[tune]
pruner = "none"
[train]
model = "sasrec"
objective = { name = "sampled-softmax", num_negatives = 5 }
[arm.small]
epochs = 3
[arm.small.ranker]
dim = 8
[arm.small.trainer]
metric = "ndcg@5"
[arm.small.search]
ranker.norm = ["pre", "post"]
""")
    found = read_tune_recipe(path)
    assert found == TuneRecipe(
        model="sasrec",
        objective="sampled-softmax",
        epochs=3,
        metric="ndcg@5",
        settings={"objective": {"num_negatives": 5}, "ranker": {"dim": 8}, "trainer": {}},
        search={"ranker.norm": ["pre", "post"]},
        pruner="none",
        trials=12,
        seed=0,
    )
    found.check("test")
    path.write_text(path.read_text() + "[arm.other]\nlike = 'small'\n[arm.other.search]\nranker.heads = [1, 2]\n")
    with pytest.raises(PalateError, match="2 arms with a search"):
        read_tune_recipe(path)


def test_settings_that_do_not_go_together_fail_alone(walks: Dataset, tmp_path: Path) -> None:
    class Picky(FakeTraining):
        def __call__(self, dataset: Dataset, **given: Any) -> Run:
            if given["settings"]["ranker"]["layers"] == 3:
                raise PalateError("three is too many")
            return super().__call__(dataset, **given)

    study = search(walks, tmp_path, Picky(), 12, sampler="random")
    failed = [row for row in study.trials if row["state"] == "failed"]
    assert len(study.trials) == 12
    assert failed
    assert {row["params"]["ranker.layers"] for row in failed} == {3}
    assert {row["error"] for row in failed} == {"three is too many."}
    assert study.best is not None


def test_a_search_that_only_fails_says_so(walks: Dataset, tmp_path: Path) -> None:
    def never(dataset: Dataset, **given: Any) -> Run:
        raise PalateError("the accelerator is on fire")

    with pytest.raises(PalateError, match="on fire"):
        tune(walks, recipe(), trials=50, out=tmp_path, train=never)


def test_another_recipe_seed_or_dataset_is_refused(walks: Dataset, tmp_path: Path) -> None:
    search(walks, tmp_path, FakeTraining(), 1)
    with pytest.raises(PalateError, match="another recipe, seed or dataset"):
        search(walks, tmp_path, FakeTraining(), 2, epochs=5)
    with pytest.raises(PalateError, match="another recipe, seed or dataset"):
        tune(walks, recipe(), trials=2, out=tmp_path, seed=2, train=FakeTraining())


def test_two_searches_in_one_folder_are_refused(walks: Dataset, tmp_path: Path) -> None:
    class Nested(FakeTraining):
        def __call__(self, dataset: Dataset, **given: Any) -> Run:
            with pytest.raises(PalateError, match="another search is at work"):
                search(walks, tmp_path, FakeTraining(), 1)
            return super().__call__(dataset, **given)

    assert len(search(walks, tmp_path, Nested(), 1).trials) == 1


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"search": {"ranker.dropuot": {"low": 0.1, "high": 0.2}}},
            "unknown option 'ranker.dropuot'. Did you mean 'dropout'?",
        ),
        ({"search": {"rankr.dropout": {"low": 0.1, "high": 0.2}}}, "search 'rankr.dropout' is of no known section"),
        ({"search": {"dropout": {"low": 0.1, "high": 0.2}}}, "search 'dropout' is of no known section"),
        ({"search": {"ranker.dropout": {"low": 0.1, "high": 1.5}}}, "with ranker.dropout = 1.5: [ranker]: 'dropout'"),
        ({"search": {"ranker.norm": {"choices": ["pre", "pots"]}}}, "with ranker.norm = 'pots': [ranker]: 'norm'"),
        ({"search": {"ranker.dropout": {"lo": 0.1, "high": 0.5}}}, "'ranker.dropout': unknown option 'lo'"),
        ({"search": {"ranker.dropout": {"low": 0.5, "high": 0.1}}}, "low is above high"),
        ({"search": {"ranker.dropout": {"low": 0.0, "high": 0.1, "log": True}}}, "a logarithm needs low > 0"),
        ({"search": {"ranker.dropout": {"low": 0.1, "high": 0.2, "log": True, "step": 0.1}}}, "log and step exclude"),
        ({"search": {"ranker.norm": {"choices": []}}}, "'ranker.norm': 'choices'"),
        ({"search": {"ranker.dropout": 0.3}}, "[tune.search] 'ranker.dropout' is 0.3"),
        ({"search": {}}, "[tune.search] is empty"),
        ({"settings": {"ranker": {"dropout": 0.3}}}, "'ranker.dropout' is both fixed and searched"),
        ({"search": {"trainer.epochs": {"low": 1, "high": 4}}}, "'trainer.epochs' is both fixed and searched"),
        ({"settings": {"trainer": {"metric": "ndcg@5"}}}, "settings.trainer.metric is a key of [tune] itself"),
        ({"settings": {"optimizer": {"lr": 1}}}, "unknown section 'settings.optimizer'"),
        ({"settings": {"ranker": {"dimm": 3}}}, "unknown option 'dimm'. Did you mean 'dim'?"),
        ({"model": "sasrek"}, "there is no ranker named 'sasrek'. Did you mean 'sasrec'?"),
        ({"objective": "bprr"}, "there is no objective named 'bprr'. Did you mean 'bpr'?"),
        ({"metrc": "ndcg@10"}, "unknown option 'metrc'. Did you mean 'metric'?"),
        ({"metric": "ndgc@10"}, "Did you mean 'ndcg'?"),
        ({"metric": "ndcg"}, "names no cut-off"),
        ({"modalities": ["id", "text"]}, "there are no features for 'text'"),
        ({"model": "item-knn", "search": {"ranker.neighbours": {"low": 5, "high": 9}}}, "is not trained in epochs"),
    ],
)
def test_mistakes_are_refused_before_the_first_trial(
    walks: Dataset, tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    fake = FakeTraining()
    with pytest.raises(PalateError) as error:
        search(walks, tmp_path / "out", fake, 3, **changes)
    assert expected in str(error.value)
    assert fake.calls == []
    assert not (tmp_path / "out").exists()


def test_quotes_round_a_searched_name_are_optional() -> None:
    nested = recipe(search={"ranker": {"dropout": SEARCH["ranker.dropout"], "norm": SEARCH["ranker.norm"]}})
    assert list(nested.search) == ["ranker.dropout", "ranker.norm"]
    assert isinstance(nested.search["ranker.dropout"], Config)


def test_the_report_can_be_read_and_trained_again(walks: Dataset, tmp_path: Path) -> None:
    searched = recipe(settings={"ranker": {"dim": 16}})
    study = tune(walks, searched, trials=6, out=tmp_path, seed=1, train=FakeTraining())
    save_report(study, searched, seed=1)
    rows = list(csv.DictReader((tmp_path / "trials.csv").open()))
    assert [row["state"] for row in rows] == [row["state"] for row in study.trials]
    assert [row["ranker.norm"] for row in rows] == [row["params"]["ranker.norm"] for row in study.trials]
    assert (tmp_path / "trials.png").read_bytes()[:4] == b"\x89PNG"
    best = read_toml(tmp_path / "best.toml")["train"]
    assert best["neighbours"] == "none"
    assert study.best is not None
    assert best["seed"] == 1
    assert best["ranker"] == {
        "dim": 16,
        **{k.partition(".")[2]: v for k, v in study.best["params"].items() if k.startswith("ranker.")},
    } | {"dropout": round(study.best["params"]["ranker.dropout"], 12)}
    assert best["objective"] == {"name": "cross-entropy"}
    settings = {key: value for key, value in best.items() if isinstance(value, dict) and key != "objective"}
    settings["trainer"]["epochs"] = 1
    run = real_train(walks, model=best["model"], out=tmp_path / "run", seed=best["seed"], settings=settings)
    assert run.info["finished"]


def test_real_training_end_to_end(walks: Dataset, tmp_path: Path) -> None:
    searched = recipe(
        epochs=2,
        settings={"ranker": {"dim": 8, "heads": 1}, "trainer": {"tensorboard": False}},
        search={"ranker.dropout": SEARCH["ranker.dropout"]},
    )
    study = tune(walks, searched, trials=2, out=tmp_path, train=real_train)
    assert study.best is not None
    rows = [json.loads(line) for line in (tmp_path / study.best["run"] / "metrics.jsonl").read_text().splitlines()]
    assert study.best["value"] == max(row["NDCG@10"] for row in rows)
    assert Run.open(tmp_path / study.best["run"]).info["finished"]


def test_a_model_without_epochs_is_measured_on_validation(walks: Dataset, tmp_path: Path) -> None:
    searched = recipe(
        model="item-knn", epochs=None, metric="hitrate@3", search={"ranker.neighbours": {"choices": [1, 5, 50]}}
    )
    study = tune(walks, searched, trials=4, out=tmp_path)
    assert study.metric.endswith("@3")
    assert study.best is not None
    assert 0 < study.best["value"] <= 1
    assert study.best["epoch"] is None
    save_report(study, searched, seed=0)
    assert "objective" not in read_toml(tmp_path / "best.toml")["train"]
