"""Making the runs of a comparison: order, failures, interruptions, choices; with a training that only pretends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.evaluation.compare import Group, compare
from palate.evaluation.evaluate import evaluate
from palate.evaluation.groups import RunGroup
from palate.evaluation.outputs import save_comparison
from palate.evaluation.result import Result
from palate.evaluation.settings import EvaluationSettings
from palate.evaluation.tables import to_json
from palate.experiments.comparison import costs_of
from palate.experiments.jobs import JobRunner, make_all
from palate.experiments.plan import CheckedOptions, ComparisonPlan, Selection
from palate.experiments.read_recipe import read_recipe
from palate.experiments.recipe import Recipe, Table
from palate.experiments.results import measured
from palate.experiments.runner import final_groups
from palate.rankers.popularity import Popularity
from palate.runs.run import Run
from palate.storage.files import read_json, write_json

RECIPE = """
[compare]
seeds = [0, 1]
trials = 4
[train]
model = "sasrec"
[align]
objective = "dpo"
[arm.base]
[arm.dpo]
from = "base"
[arm.dpo.search]
"preference.beta" = [1, 2, 3]
[arm.uniform]
like = "dpo"
negatives = "uniform"
[arm.wide]
ranker = { dim = 128 }
[curve.beta]
arm = "dpo"
setting = "preference.beta"
values = [2, 5]
"""


def read(command: str, table: Table, where: str) -> CheckedOptions:
    """Options as one word each; nothing is checked."""
    return CheckedOptions([json.dumps(table, sort_keys=True)], table)


class Killed(BaseException):
    """The comparison's own process ends here."""


class FakePalate:
    """Stands in for the command: makes a run folder whose validation is best where beta is 2."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.calls: list[str] = []
        self.fails: dict[str, int] = {}
        self.kill_at: int | None = None
        self.busy = self.most_busy = 0
        self.value: Callable[[Table], float] = lambda table: (
            1 - abs(table.get("preference", {}).get("beta", 9) - 2) / 10
        )

    async def __call__(self, words: Sequence[str], log: Path) -> int:
        if self.kill_at is not None and len(self.calls) >= self.kill_at:
            raise Killed
        self.calls.append(log.stem)
        self.busy += 1
        self.most_busy = max(self.busy, self.most_busy)
        await asyncio.sleep(0.001)
        self.busy -= 1
        command, *sources, table, _, seed, _, out, resume = words
        assert resume == "--resume"
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.stem in self.fails:
            log.write_text("Epoch 1\nError: it went wrong.\n")
            return self.fails[log.stem]
        if command == "align":
            (source,) = sources
            assert Run.open(source).finished, "aligned before its start was there"
            assert Run.open(source).seed == int(seed)
        if command == "blend":
            assert all(Run.open(source).finished for source in sources), "blended before its parts were there"
        options = {"table": json.loads(table), "settings": {"trainer": {"metric": "NDCG@5"}}}
        if (Path(out) / "run.json").exists():
            if Run.open(out).info["options"] != options:
                log.write_text(f"Error: {out} was started with other options. Resume with the same options.\n")
                return 2
            return 0
        run = Run.start(out, model="sasrec", options=options, seed=int(seed), dataset=self.dataset, dataset_path=None)
        run.model_folder.mkdir()
        (run.folder / "metrics.jsonl").write_text("{}\n")
        best = {"epoch": 1, "NDCG@5": self.value(json.loads(table))}
        run.add(finished=True, best=best, seconds=2.0)
        return 0


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return written(tmp_path, RECIPE)


def written(tmp_path: Path, text: str) -> Recipe:
    path = tmp_path / "r.toml"
    path.write_text(text)
    return read_recipe(path)


@pytest.fixture
def palate(ring: Callable[..., Dataset]) -> FakePalate:
    return FakePalate(ring(users=4, items=6, longest=5))


def value(run: Run) -> tuple[str, float]:
    return "NDCG@5", float(run.info["best"]["NDCG@5"])


def work(
    recipe: Recipe, palate: FakePalate, tmp_path: Path, *, curves: bool = False, **more: Any
) -> tuple[JobRunner, Any]:
    plan = planned(recipe, tmp_path / "out")

    async def main() -> tuple[JobRunner, Any]:
        runner = JobRunner(plan, palate.dataset.fingerprint, execute=palate, value=value, **more)
        return runner, await make_all(runner, plan.curve_runs() if curves else plan.table_runs())

    return asyncio.run(main())


def planned(recipe: Recipe, out: Path) -> ComparisonPlan:
    selection = Selection(list(recipe.arms), recipe.compare.seeds, recipe.compare.trials, list(recipe.curves))
    return ComparisonPlan(recipe, selection, out, "data", read)


FINALS = {"base-0", "base-1", "dpo-1", "uniform-0", "uniform-1", "wide-0", "wide-1"}
TRIALS = {"trial-dpo-0000", "trial-dpo-0001", "trial-dpo-0002"}


def test_every_run_is_made_once_and_found_again(recipe: Recipe, palate: FakePalate, tmp_path: Path) -> None:
    runner, failures = work(recipe, palate, tmp_path, jobs=3)
    assert failures == []
    # The best trial is the final run of its seed: dpo-0 is not trained again.
    assert sorted(palate.calls) == sorted(FINALS | TRIALS)
    assert 1 < palate.most_busy <= 3
    assert runner.chosen["dpo"]["settings"] == {"preference.beta": 2}
    assert runner.chosen["dpo"]["trials"] == 3
    assert read_json(tmp_path / "out" / "chosen.json") == runner.chosen
    table = Run.open(tmp_path / "out/runs/uniform-1").info["options"]["table"]
    assert table == {"negatives": "uniform", "objective": "dpo", "preference": {"beta": 2}}
    assert Run.open(tmp_path / "out/runs/dpo-0").info["options"]["table"]["preference"] == {"beta": 2}
    palate.calls.clear()
    runner, failures = work(recipe, palate, tmp_path)
    assert (palate.calls, failures) == ([], [])
    assert runner.chosen["dpo"]["settings"] == {"preference.beta": 2}


def test_one_at_a_time_unless_told_otherwise(recipe: Recipe, palate: FakePalate, tmp_path: Path) -> None:
    work(recipe, palate, tmp_path)
    assert palate.most_busy == 1


@pytest.mark.parametrize("after", range(0, 10, 2))
def test_killed_anywhere_it_goes_on_and_ends_the_same(
    recipe: Recipe, palate: FakePalate, tmp_path: Path, after: int
) -> None:
    palate.kill_at = after
    with pytest.raises(Killed):
        work(recipe, palate, tmp_path)
    assert len(palate.calls) == after
    palate.kill_at = None
    runner, failures = work(recipe, palate, tmp_path)
    assert failures == []
    assert sorted(palate.calls) == sorted(FINALS | TRIALS)  # and none of them twice
    assert runner.chosen["dpo"]["settings"] == {"preference.beta": 2}


def test_a_failed_run_names_its_log_and_does_not_stop_the_others(
    recipe: Recipe, palate: FakePalate, tmp_path: Path
) -> None:
    palate.fails = {"base-1": 1}
    _, failures = work(recipe, palate, tmp_path)
    assert len(failures) == 1
    assert "base-1 failed (it went wrong.)" in str(failures[0])
    assert str(tmp_path / "out/logs/base-1.log") in str(failures[0])
    # Only what starts from it is missing.
    made = {path.parent.name for path in (tmp_path / "out/runs").glob("*/run.json")}
    assert made == (FINALS | {"dpo-0"}) - {"base-1", "dpo-1", "uniform-1"}
    palate.fails, palate.calls = {}, []
    assert work(recipe, palate, tmp_path)[1] == []
    assert sorted(palate.calls) == ["base-1", "dpo-1", "uniform-1"]


def test_a_refused_trial_counts_and_a_crashed_one_is_made_again(
    recipe: Recipe, palate: FakePalate, tmp_path: Path
) -> None:
    palate.fails = {"trial-dpo-0001": 2}
    runner, failures = work(recipe, palate, tmp_path)
    assert failures == []
    assert runner.chosen["dpo"] | {"seconds": 0} == {
        "settings": {"preference.beta": 1},
        "metric": "NDCG@5",
        "value": 0.9,
        "trial": 0,
        "trials": 3,
        "failed": 1,
        "seed": 0,
        "seconds": 0,
    }
    assert read_json(tmp_path / "out/trials/dpo/0001.json")["error"] == "it went wrong."
    other = tmp_path / "other"
    palate.fails = {"trial-dpo-0001": 137}
    _, failures = work(recipe, palate, other)
    assert "trial-dpo-0001 failed" in str(failures[0])
    assert not (other / "out/chosen.json").exists()
    assert not (other / "out/trials/dpo/0001.json").exists()
    palate.fails, palate.calls = {}, []
    runner, failures = work(recipe, palate, other)
    assert failures == []
    assert runner.chosen["dpo"]["settings"] == {"preference.beta": 2}
    assert {name for name in palate.calls if "trial" in name} == {"trial-dpo-0001"}


def test_all_trials_refused(recipe: Recipe, palate: FakePalate, tmp_path: Path) -> None:
    palate.fails = dict.fromkeys(TRIALS, 2)
    _, failures = work(recipe, palate, tmp_path)
    assert "dpo: all 3 trials failed (it went wrong.)" in str(failures[0])


def test_of_trials_only_figures_stay(recipe: Recipe, palate: FakePalate, tmp_path: Path) -> None:
    work(recipe, palate, tmp_path)
    trials = tmp_path / "out/trials/dpo"
    assert {path.name for path in (trials / "0000").iterdir()} == {"run.json", "metrics.jsonl", "compare.json"}
    assert not (trials / "0001").exists()  # it is runs/dpo-0 now
    assert read_json(trials / "0001.json")["value"] == 1.0
    kept = tmp_path / "kept"
    work(recipe, palate, kept, keep_trials=True)
    assert all((kept / f"out/trials/dpo/000{number}/model").is_dir() for number in range(3))


def test_changed_options_are_refused_by_the_command(recipe: Recipe, palate: FakePalate, tmp_path: Path) -> None:
    work(recipe, palate, tmp_path)
    changed = written(tmp_path, RECIPE.replace("dim = 128", "dim = 64"))
    _, failures = work(changed, palate, tmp_path)
    assert len(failures) == 2
    assert "was started with other options" in str(failures[0])


def test_trials_of_another_search_are_refused(recipe: Recipe, palate: FakePalate, tmp_path: Path) -> None:
    work(recipe, palate, tmp_path)
    for old, new in (("[1, 2, 3]", "[1, 2, 4]"), ('objective = "dpo"', 'objective = "ipo"')):
        changed = written(tmp_path, RECIPE.replace(old, new))
        _, failures = work(changed, palate, tmp_path)
        assert "holds trials of another search" in str(failures[0])


def test_a_start_that_was_made_again_is_noticed(recipe: Recipe, palate: FakePalate, tmp_path: Path) -> None:
    work(recipe, palate, tmp_path)
    info = tmp_path / "out/runs/base-1/run.json"
    write_json(info, {**read_json(info), "seconds": 99})
    _, failures = work(recipe, palate, tmp_path)
    assert sorted("made from an earlier state" in str(one) for one in failures) == [True, True]


BLENDS = """
[compare]
seeds = [0, 1]
[train]
model = "sasrec"
[arm.one]
[arm.two]
ranker = { dim = 128 }
[arm.both]
blend = ["one", "two"]
[arm.seeds]
blend = ["one", "one"]
"""


def test_blends_are_made_of_finished_runs(palate: FakePalate, tmp_path: Path) -> None:
    recipe = written(tmp_path, BLENDS)
    _, failures = work(recipe, palate, tmp_path)
    assert failures == []
    assert sorted(palate.calls) == sorted(f"{arm}-{seed}" for arm in recipe.arms for seed in (0, 1))
    runs = tmp_path / "out/runs"
    command = read_json(runs / "seeds-1" / "compare.json")["command"]
    assert command[:4] == ["palate", "blend", str(runs / "one-1"), str(runs / "one-0")]
    plan = ComparisonPlan(recipe, Selection(["both"], [1], 4, []), tmp_path, "data", read)
    rows = {row["name"]: row["command"] for row in plan.rows()}
    assert rows["both-1"][:4] == ["palate", "blend", str(tmp_path / "runs/one-1"), str(tmp_path / "runs/two-1")]
    palate.calls.clear()
    assert work(recipe, palate, tmp_path)[1] == []
    assert palate.calls == []
    write_json(runs / "two-1" / "run.json", {**read_json(runs / "two-1" / "run.json"), "seconds": 99})
    _, failures = work(recipe, palate, tmp_path)
    assert [str(one).count("both-1 was made from an earlier state") for one in failures] == [1]


def test_a_continuum_is_searched_with_as_many_trials(palate: FakePalate, tmp_path: Path) -> None:
    text = RECIPE.replace("[1, 2, 3]", "{ low = 0.5, high = 8.0, log = true }")
    palate.kill_at = 3
    with pytest.raises(Killed):
        work(written(tmp_path, text), palate, tmp_path)
    palate.kill_at = None
    runner, failures = work(written(tmp_path, text), palate, tmp_path)
    assert failures == []
    rows = [read_json(path) for path in sorted((tmp_path / "out/trials/dpo").glob("*.json"))]
    assert len(rows) == 4
    best = max(rows, key=lambda row: row["value"])
    assert runner.chosen["dpo"]["settings"] == best["params"]
    unbroken = tmp_path / "unbroken"
    again, _ = work(written(tmp_path, text), palate, unbroken)
    assert again.chosen == runner.chosen


def test_curves_take_the_chosen_run_where_it_is_a_point(recipe: Recipe, palate: FakePalate, tmp_path: Path) -> None:
    work(recipe, palate, tmp_path)
    palate.calls.clear()
    _, failures = work(recipe, palate, tmp_path, curves=True)
    assert failures == []
    assert palate.calls == ["curve-beta-5-0"]  # 2 is what was chosen


def test_the_plan_names_every_run(recipe: Recipe, palate: FakePalate, tmp_path: Path) -> None:
    rows = planned(recipe, tmp_path).rows()
    names = {row["name"] for row in rows}
    assert names == FINALS | TRIALS | {"dpo-0", "curve-beta-2-0", "curve-beta-5-0"}
    by_name = {row["name"]: row for row in rows}
    assert by_name["base-1"]["command"][:3] == ["palate", "train", "data"]
    assert by_name["base-1"]["and"] == []
    assert by_name["uniform-1"]["command"][:3] == ["palate", "align", str(tmp_path / "runs/base-1")]
    assert by_name["uniform-1"]["and"] == ["what is chosen for dpo"]
    assert '"beta": 2' in by_name["trial-dpo-0001"]["command"][3]
    assert ComparisonPlan(recipe, Selection(["base"], [1], 4, []), tmp_path, "data", read).rows()[0]["name"] == "base-1"


def test_what_is_made_is_what_was_planned(recipe: Recipe, palate: FakePalate, tmp_path: Path) -> None:
    work(recipe, palate, tmp_path)
    rows = {row["name"]: row for row in planned(recipe, tmp_path / "out").rows()}
    assert set(palate.calls) < set(rows)
    for path in (tmp_path / "out/runs").glob("*/compare.json"):
        row = rows[path.parent.name]
        if not row["and"]:
            assert read_json(path)["command"] == row["command"]
    assert read_json(tmp_path / "out/trials/dpo/0000/compare.json")["command"] == rows["trial-dpo-0000"]["command"]


def test_costs(recipe: Recipe, palate: FakePalate, tmp_path: Path) -> None:
    runner, _ = work(recipe, palate, tmp_path)

    async def groups() -> Any:
        again = JobRunner(runner.plan, runner.fingerprint, execute=palate, value=value)
        return await final_groups(again, ["dpo", "uniform"], [1, 0])

    rows = costs_of(recipe, asyncio.run(groups()), runner.chosen)
    assert rows["dpo"] == {
        "from": "base",
        "like": None,
        "runs": 2,
        "seconds": 4.0,
        "trials": 3,
        "trial_seconds": 6.0,
        "chosen": {"preference.beta": 2},
    }
    assert (rows["uniform"]["trials"], rows["uniform"]["like"]) == (0, "dpo")


def test_an_unexpected_error_is_not_swallowed(recipe: Recipe, palate: FakePalate, tmp_path: Path) -> None:
    def broken(table: Table) -> float:
        raise ZeroDivisionError

    palate.value = broken
    with pytest.raises(ZeroDivisionError):
        work(recipe, palate, tmp_path)


def test_an_unfinished_run_is_told(recipe: Recipe, palate: FakePalate, tmp_path: Path) -> None:
    Run.start(
        tmp_path / "out/runs/wide-0", model="sasrec", options={}, seed=0, dataset=palate.dataset, dataset_path=None
    )

    async def nothing(words: Sequence[str], log: Path) -> int:
        return 0 if "wide-0" in log.stem else await FakePalate.__call__(palate, words, log)

    nothing.dataset = palate.dataset  # type: ignore[attr-defined]
    _, failures = work(recipe, nothing, tmp_path)  # type: ignore[arg-type]
    assert ["wide-0 did not come to its end" in str(one) for one in failures] == [True]


# --- what slow models answer ---------------------------------------------------------------------------------------


class FakeEvaluate:
    """Stands in for `palate evaluate RUN ... --out DIR`: measures a counted model in the run's place."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.calls: list[str] = []
        self.fails: set[str] = set()

    async def __call__(self, words: Sequence[str], log: Path) -> int:
        await asyncio.sleep(0.001)
        self.calls.append(log.stem)
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.stem in self.fails:
            log.write_text("Error: out of memory\n")
            return 1
        command, folder, table, _, split, _, dataset, _, out = words
        assert (command, split, dataset) == ("evaluate", "test", "data")
        run = Run.open(folder)
        options = json.loads(table)
        result = evaluate(Popularity.fit(self.dataset), self.dataset, protocol="sampled", ks=[3], run=run, **options)
        group = Group(run.name, (result,), (run.seed,))
        save_comparison(out, compare([group]), [group])
        return 0


@pytest.fixture
def slow(tmp_path: Path, palate: FakePalate) -> tuple[list[RunGroup], FakeEvaluate]:
    """Runs of language models (in name only), two of one arm and one of another, and one that is fast."""
    groups = []
    for label, seeds in {"sft": (0, 1), "dpo": (0,), "knn": (0,)}.items():
        runs = []
        for seed in seeds:
            model = "item-knn" if label == "knn" else "mllm"
            out = tmp_path / "out" / "runs" / f"{label}-{seed}"
            run = Run.start(out, model=model, options={}, seed=seed, dataset=palate.dataset, dataset_path=None)
            runs.append(run.add(finished=True))
        groups.append(RunGroup(label, tuple(runs)))
    return groups, FakeEvaluate(palate.dataset)


def measuring(tmp_path: Path, groups: list[RunGroup], execute: FakeEvaluate, **options: Any) -> dict[Path, Result]:
    recipe = replace(written(tmp_path, RECIPE), evaluate={"negatives": 4, **options})
    plan, fingerprint = planned(recipe, tmp_path / "out"), execute.dataset.fingerprint
    runner = JobRunner(plan, fingerprint, execute=execute, value=value, jobs=2)
    return asyncio.run(measured(runner, groups, "test"))


def test_slow_runs_are_measured_once_and_kept(tmp_path: Path, slow: tuple[list[RunGroup], FakeEvaluate]) -> None:
    groups, execute = slow
    execute.fails = {"measure-test-sft-1"}
    with pytest.raises(PalateError, match="out of memory"):
        measuring(tmp_path, groups, execute)
    assert sorted(execute.calls) == ["measure-test-dpo-0", "measure-test-sft-0", "measure-test-sft-1"]
    execute.calls, execute.fails = [], set()
    found = measuring(tmp_path, groups, execute)
    assert execute.calls == ["measure-test-sft-1"]  # what had come to its end is kept
    assert {folder.name for folder in found} == {"sft-0", "sft-1", "dpo-0"}
    measuring(tmp_path, groups, execute)
    assert execute.calls == ["measure-test-sft-1"]
    measuring(tmp_path, groups, execute, negatives=5)  # another question
    assert len(execute.calls) == 4
    groups[0].runs[0].add(seconds=9)  # another run
    measuring(tmp_path, groups, execute, negatives=5)
    assert execute.calls[4:] == ["measure-test-sft-0"]


def test_kept_results_make_the_same_table(
    tmp_path: Path, slow: tuple[list[RunGroup], FakeEvaluate], monkeypatch: pytest.MonkeyPatch
) -> None:
    groups, execute = slow
    known = measuring(tmp_path, groups, execute)
    settings = EvaluationSettings("sampled", ks=[3], negatives=4)

    def table(known: Any) -> dict[str, Any]:
        asked: list[str] = []

        def load(run: Run, device: str) -> Popularity:
            asked.append(run.name)
            return Popularity.fit(execute.dataset)

        monkeypatch.setattr("palate.evaluation.settings.load_recommender", load)
        evaluated = settings.evaluate(groups, execute.dataset, "test", known)
        assert ("sft-0" in asked) == (not known)
        return to_json(compare(evaluated, base="sft"))

    stored, fresh = table(known), table({})
    assert stored["models"] == fresh["models"]
    assert stored["slices"] == fresh["slices"]
    assert {key for key in stored if stored[key] != fresh[key]} <= {"environment"}
