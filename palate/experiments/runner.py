"""A comparison from its first trial to its last curve, stage by stage, in one folder."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from palate.console import Table
from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.evaluation.compare import Comparison
from palate.evaluation.evaluate import Split
from palate.evaluation.groups import RunGroup
from palate.evaluation.result import Result
from palate.evaluation.settings import EvaluationSettings
from palate.experiments.comparison import cost_table, costs_of, judge
from palate.experiments.curves import save_curve
from palate.experiments.jobs import JobRunner, make_all
from palate.experiments.plan import ComparisonPlan
from palate.experiments.processes import Execute, Processes
from palate.experiments.results import measured
from palate.experiments.validated import validated
from palate.progress import Pace, lines_of, shown
from palate.runs.run import Run, environment
from palate.storage.files import read_json, write_json

_SHOWN_FAILURES = 5
T = TypeVar("T")


@dataclass
class ComparisonOutcome:
    """What a comparison made.

    Attributes:
        chosen: settings and figures by arm.
        table: the folder of the table, or None where that stage was not selected.
        comparison: None also where the table was there already.
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
        curves = {name: read_json(self.folder / "curves" / f"{name}.json") for name in self.curves}
        table = {} if self.table is None else {"table": read_json(self.table / "table.json")}
        return {"out": str(self.folder), "chosen": self.chosen, **table, "curves": curves}

    def lines(self) -> list[str]:
        """Where the results are stored."""
        rows = [f"Chosen on validation: {self.folder / 'chosen.json'}"] if self.chosen else []
        if self.table is not None:
            rows.append(f"Written to {self.table}: table.md, table.json, chart.png, per-user.parquet.")
        return rows + [f"Curve: {self.folder / 'curves' / name}.png" for name in self.curves]


class ComparisonRunner:
    """One call of ``palate compare``.

    Args:
        held: descriptors that runs inherit, so that those left behind keep the folder locked.
        log: called with what happens.
        jobs: runs at a time.
        execute: runs commands; by default in processes of their own.
    """

    def __init__(
        self,
        plan: ComparisonPlan,
        dataset: Dataset,
        settings: EvaluationSettings,
        *,
        jobs: int = 1,
        keep_trials: bool = False,
        held: Sequence[int] = (),
        log: Callable[[str], None] = lambda text: None,
        execute: Execute | None = None,
    ) -> None:
        self.plan, self.recipe, self.selection, self.out = plan, plan.recipe, plan.selection, plan.out
        self.dataset, self.settings, self.jobs, self.keep_trials = dataset, settings, jobs, keep_trials
        self.execute = execute or Processes(held)
        self.meter = Meter(log, len(plan.table_runs()) + len(plan.curve_runs()))

    def run(self) -> ComparisonOutcome:
        """All selected stages.

        Raises:
            PalateError: runs failed; what could be made without them is there.
        """
        selection, recipe = self.selection, self.recipe
        chosen = self._stage(self._make_table_runs)
        outcome = ComparisonOutcome(self.out, chosen)
        if selection.stage("test"):
            groups = self._stage(self._groups)
            costs = costs_of(recipe, groups, chosen)
            everything = selection.arms == list(recipe.arms)
            name = recipe.compare.split if everything else f"{recipe.compare.split}-{'+'.join(selection.arms)}"
            outcome.table, outcome.costs = self.out / name, cost_table(costs)
            outcome.comparison = judge(recipe, groups, self.dataset, self.settings, outcome.table, costs, self._slow)
        if selection.stage("curves") and selection.curves:
            for name, points, base in self._stage(self._make_curve_runs):
                if save_curve(recipe, name, points, base, self.dataset, self.settings, self.out / "curves", self._slow):
                    self.meter(f"curve {name}: {self.out / 'curves' / name}.png")
            outcome.curves = selection.curves
        return outcome

    def _stage(self, work: Callable[[JobRunner], Awaitable[T]]) -> T:
        """Run a stage with its processes; Ctrl-C and SIGTERM end them before anything else happens."""

        async def main() -> T:
            task = asyncio.current_task()
            assert task is not None
            with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):  # not here, or not this thread
                asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
            runner = JobRunner(
                self.plan,
                self.dataset.fingerprint,
                execute=self.execute,
                value=self._value,
                keep_trials=self.keep_trials,
                log=self.meter,
                count=self.meter.count,
                jobs=self.jobs,
            )
            return await work(runner)

        before = signal.getsignal(signal.SIGTERM)
        try:
            with self.meter.lines():
                return asyncio.run(main())
        except asyncio.CancelledError:
            raise SystemExit(128 + signal.SIGTERM) from None
        finally:  # the loop has put back the system's own way to end
            with contextlib.suppress(ValueError, TypeError):  # not in this thread, or not Python's
                signal.signal(signal.SIGTERM, before)

    async def _make_table_runs(self, runner: JobRunner) -> dict[str, dict[str, Any]]:
        self._refuse(await make_all(runner, self.plan.table_runs()))
        return {name: runner.chosen[name] for name in self.recipe.arms if name in runner.chosen}

    async def _groups(self, runner: JobRunner) -> list[RunGroup]:
        return await final_groups(runner, self.selection.arms, self.selection.seeds)

    def _slow(self, groups: Sequence[RunGroup], split: Split) -> Mapping[Path, Result]:
        return self._stage(lambda runner: measured(runner, groups, split))

    async def _make_curve_runs(self, runner: JobRunner) -> list[tuple[str, list[tuple[Any, list[Run]]], list[Run]]]:
        """Every curve's name, its values with their runs, and the base's runs."""
        self._refuse(await make_all(runner, self.plan.curve_runs()))
        found = []
        for name in self.selection.curves:
            points = [
                (value, [await runner.run(run) for run in sorted(runs, key=lambda run: run.seed)])
                for value, runs in self.plan.points(name)
            ]
            seeds = sorted(self.selection.curve_seeds(self.recipe, name))
            base = [await runner.run(self.plan.final(self.recipe.base, seed)) for seed in seeds]
            found.append((name, points, base))
        return found

    def _refuse(self, failures: Sequence[PalateError]) -> None:
        if not failures:
            return
        shown = [error.message for error in failures[:_SHOWN_FAILURES]]
        more = len(failures) - len(shown)
        raise PalateError(
            "; ".join(shown) + (f"; and {more} more" if more else ""),
            "What is finished is kept: mend the cause and give the same command again.",
        )

    def _value(self, run: Run) -> tuple[str, float]:
        """A run's best validation; of a model without epochs, one made for the purpose."""
        best, own = run.info.get("best"), run.info.get("metric")
        if best and isinstance(own, str) and own in best:  # a language model is validated on sampled candidates
            return own, float(best[own])
        trainer = run.info["options"].get("settings", {}).get("trainer", {})
        if best and trainer.get("metric") in best:
            return trainer["metric"], float(best[trainer["metric"]])
        metric, settings = self.settings.primary or "ndcg@10", self.settings
        return validated(run, self.dataset, metric, exclude_seen=settings.exclude_seen, device=settings.device)


class Meter:
    """Puts before each message how far the work is, and when about it will be done."""

    def __init__(self, log: Callable[[str], None], total: int) -> None:
        self._log, self._total = log, total
        self._there: set[str] = set()
        self._made = 0
        self._started = time.monotonic()
        self._pace = Pace("Runs", total)

    def lines(self) -> AbstractContextManager[None]:
        """Lines between the messages while runs take their time, in a log."""
        return lines_of(self._pace) if shown() and not sys.stderr.isatty() else nullcontext()

    def count(self, name: str, made: bool) -> None:
        """A run is there; ``made`` now, not found."""
        new = name not in self._there and len(self._there) < self._total
        self._there.add(name)
        self._made += made
        if made:
            self._pace.advance(new)
        else:
            self._pace.done += new

    def __call__(self, text: str) -> None:
        done = min(len(self._there), self._total)
        left = ""
        if self._made and done < self._total:
            seconds = (time.monotonic() - self._started) / self._made * (self._total - done)
            left = f", about {seconds / 60:.0f} min left" if seconds >= 90 else f", about {seconds:.0f} s left"
        self._log(f"[{done}/{self._total}{left}] {text}")


async def final_groups(runner: JobRunner, names: Sequence[str], seeds: Sequence[int]) -> list[RunGroup]:
    """The finished final runs as rows."""
    return [
        RunGroup(name, tuple([await runner.run(runner.plan.final(name, seed)) for seed in sorted(seeds)]))
        for name in names
    ]


def write_plan(plan: ComparisonPlan) -> None:
    """``plan.json`` and a copy of the recipe: what is about to be done, by which code."""
    facts, recipe, selection = environment(), plan.recipe, plan.selection
    write_json(
        plan.out / "plan.json",
        {
            "recipe": {"path": str(recipe.path), "digest": recipe.digest},
            "dataset": plan.dataset,
            "palate": facts["palate"],
            "commit": facts["commit"],
            "command": facts["command"],
            "arms": selection.arms,
            "seeds": selection.seeds,
            "trials": selection.trials,
            "runs": plan.rows(),
        },
    )
    shutil.copyfile(recipe.path, plan.out / "recipe.toml")
