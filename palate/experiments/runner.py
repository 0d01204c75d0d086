"""A comparison from its first trial to its last curve, stage by stage, in one folder."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palate.console import Table
from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.evaluation.compare import Comparison
from palate.evaluation.evaluate import Split
from palate.evaluation.groups import RunGroup
from palate.evaluation.protocol import Measure
from palate.evaluation.result import Result
from palate.experiments.comparison import Selection, cost_table, costs_of, final_groups, judge, make
from palate.experiments.curves import save_curve
from palate.experiments.jobs import JobRunner, OptionsReader
from palate.experiments.processes import Execute, Processes
from palate.experiments.recipe import Recipe
from palate.experiments.results import measured
from palate.rankers.registry import load_recommender
from palate.runs.run import Run, environment
from palate.storage.files import read_json, write_json
from palate.training.validation import Validation, parse_metric

_SHOWN_FAILURES = 5


@dataclass
class ComparisonOutcome:
    """What a comparison made.

    Attributes:
        chosen: settings and figures by arm.
        table: the folder of the table, or None where the stage was not asked for.
        comparison: None also where the table stood there already.
        curves: names of the curves.
    """

    folder: Path
    chosen: dict[str, dict[str, Any]]
    table: Path | None = None
    comparison: Comparison | None = None
    costs: Table | None = None
    curves: Sequence[str] = ()

    def facts(self) -> dict[str, Any]:
        """For machines."""
        told: dict[str, Any] = {"out": str(self.folder), "chosen": self.chosen}
        if self.table is not None:
            told["table"] = read_json(self.table / "table.json")
        told["curves"] = {name: read_json(self.folder / "curves" / f"{name}.json") for name in self.curves}
        return told

    def lines(self) -> list[str]:
        """Where things lie."""
        rows = [f"Chosen on validation: {self.folder / 'chosen.json'}"] if self.chosen else []
        if self.table is not None:
            rows.append(f"Written to {self.table}: table.md, table.json, chart.png, per-user.parquet.")
        return rows + [f"Curve: {self.folder / 'curves' / name}.png" for name in self.curves]


class ComparisonRunner:
    """One call of ``palate compare``.

    Args:
        held: descriptors that runs inherit, so that those left behind keep the folder locked.
        say: told what happens.
        jobs: runs at a time.
        total: how many runs there are.
        execute: runs commands; by default in processes of their own.
    """

    def __init__(
        self,
        recipe: Recipe,
        wanted: Selection,
        out: Path,
        folder: Path,
        dataset: Dataset,
        read: OptionsReader,
        measure: Measure,
        jobs: int = 1,
        keep_trials: bool = False,
        held: Sequence[int] = (),
        say: Callable[[str], None] = lambda text: None,
        total: int = 0,
        execute: Execute | None = None,
    ) -> None:
        self.recipe, self.wanted, self.out, self.folder, self.dataset = recipe, wanted, out, folder, dataset
        self.read, self.measure, self.jobs, self.keep_trials, self.held = read, measure, jobs, keep_trials, held
        self.execute = execute
        self.meter = Meter(say, total)

    def run(self) -> ComparisonOutcome:
        """All stages that are wanted.

        Raises:
            PalateError: runs failed; what could be made without them is there.
        """
        wanted, recipe = self.wanted, self.recipe
        chosen = self._stage(self._runs)
        outcome = ComparisonOutcome(self.out, chosen)
        if wanted.stage("test"):
            groups: list[RunGroup] = self._stage(self._groups)
            costs = costs_of(recipe, groups, chosen)
            everything = wanted.arms == list(recipe.arms)
            name = recipe.compare.split if everything else f"{recipe.compare.split}-{'+'.join(wanted.arms)}"
            outcome.table, outcome.costs = self.out / name, cost_table(costs)
            outcome.comparison = judge(recipe, groups, self.dataset, self.measure, outcome.table, costs, self._slow)
        if wanted.stage("curves") and wanted.curves:
            for name, points, base in self._stage(self._curves):
                if save_curve(recipe, name, points, base, self.dataset, self.measure, self.out / "curves", self._slow):
                    self.meter(f"curve {name}: {self.out / 'curves' / name}.png")
            outcome.curves = wanted.curves
        return outcome

    def _stage(self, work: Callable[[JobRunner], Any]) -> Any:
        """Run a stage with its processes; Ctrl-C and SIGTERM end them before anything else happens."""

        async def main() -> Any:
            execute = self.execute or Processes(self.held)
            task = asyncio.current_task()
            assert task is not None
            with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):  # not here, or not this thread
                asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
            arms = JobRunner(
                self.recipe,
                self.out,
                dataset=(str(self.folder), self.dataset.fingerprint),
                read=self.read,
                execute=execute,
                value=self._value,
                trials=self.wanted.trials,
                keep_trials=self.keep_trials,
                say=self.meter,
                count=self.meter.count,
                jobs=self.jobs,
            )
            return await work(arms)

        before = signal.getsignal(signal.SIGTERM)
        try:
            return asyncio.run(main())
        except asyncio.CancelledError:
            raise SystemExit(128 + signal.SIGTERM) from None
        finally:  # the loop has put back the system's own way to end
            with contextlib.suppress(ValueError, TypeError):  # not in this thread, or not Python's
                signal.signal(signal.SIGTERM, before)

    async def _runs(self, arms: JobRunner) -> dict[str, dict[str, Any]]:
        self._refuse(await make(arms, self.wanted))
        return {name: arms.chosen[name] for name in self.recipe.arms if name in arms.chosen}

    async def _groups(self, arms: JobRunner) -> list[RunGroup]:
        return await final_groups(arms, self.wanted.arms, self.wanted.seeds)

    def _slow(self, groups: Sequence[RunGroup], split: Split) -> Mapping[Path, Result]:
        found: Mapping[Path, Result] = self._stage(lambda arms: measured(arms, groups, split))
        return found

    async def _curves(self, arms: JobRunner) -> list[tuple[str, list[tuple[Any, list[Run]]], list[Run]]]:
        self._refuse(await make(arms, self.wanted, curves=True))
        found = []
        for name in self.wanted.curves:
            seeds = sorted(self.wanted.curve_seeds(self.recipe, name))
            points = [
                (value, [await arms.point(name, value, seed) for seed in seeds])
                for value in self.recipe.curves[name].values
            ]
            found.append((name, points, [await arms.final(self.recipe.base, seed) for seed in seeds]))
        return found

    def _refuse(self, failures: Sequence[PalateError]) -> None:
        if not failures:
            return
        told = [error.message for error in failures[:_SHOWN_FAILURES]]
        more = len(failures) - len(told)
        raise PalateError(
            "; ".join(told) + (f"; and {more} more" if more else ""),
            "What is finished is kept: mend the cause and give the same command again.",
        )

    def _value(self, run: Run) -> tuple[str, float]:
        """A run's best validation; of a model without epochs, one made for the purpose."""
        best, own = run.info.get("best"), run.info.get("metric")
        if best and isinstance(own, str) and own in best:  # a language model is asked about sampled candidates
            return own, float(best[own])
        trainer = run.info["options"].get("settings", {}).get("trainer", {})
        if best and trainer.get("metric") in best:
            return trainer["metric"], float(best[trainer["metric"]])
        label = parse_metric(self.measure.primary or "ndcg@10")[0]
        validation = Validation(self.dataset, label, self.measure.exclude_seen)
        return label, validation(load_recommender(run, device=self.measure.device))[label]


class Meter:
    """Puts before each message how far the work is, and when about it will be done."""

    def __init__(self, say: Callable[[str], None], total: int) -> None:
        self._say, self._total = say, total
        self._there: set[str] = set()
        self._made = 0
        self._started = time.monotonic()

    def count(self, name: str, made: bool) -> None:
        """A run is there; ``made`` now, not found."""
        self._there.add(name)
        self._made += made

    def __call__(self, text: str) -> None:
        done = min(len(self._there), self._total)
        left = ""
        if self._made and done < self._total:
            seconds = (time.monotonic() - self._started) / self._made * (self._total - done)
            left = f", about {seconds / 60:.0f} min left" if seconds >= 90 else f", about {seconds:.0f} s left"
        self._say(f"[{done}/{self._total}{left}] {text}")


def write_plan(folder: Path, recipe: Recipe, dataset: Path, wanted: Selection, rows: list[dict[str, Any]]) -> None:
    """``plan.json`` and a copy of the recipe: what is about to be done, by which code."""
    facts = environment()
    write_json(
        folder / "plan.json",
        {
            "recipe": {"path": str(recipe.path), "digest": recipe.digest},
            "dataset": str(dataset),
            "palate": facts["palate"],
            "commit": facts["commit"],
            "command": facts["command"],
            "arms": wanted.arms,
            "seeds": wanted.seeds,
            "trials": wanted.trials,
            "runs": rows,
        },
    )
    shutil.copyfile(recipe.path, folder / "recipe.toml")
