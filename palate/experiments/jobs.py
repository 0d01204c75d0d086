"""The runs of a comparison: each made once, by a command in a process of its own, and found again later."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from palate.console import counted
from palate.errors import PalateError
from palate.experiments.marks import MARK, clear_other, read_mark, write_mark
from palate.experiments.plan import ComparisonPlan, PlannedRun
from palate.experiments.processes import Execute
from palate.experiments.search import Trial, TrialLog, best_of, key_of
from palate.runs.run import Run
from palate.storage.files import digest, file_digest, read_json, write_json

# Exit code of a command that refuses its input: the same command would refuse it again.
_REFUSED = 2
# What remains of a trial's run once the choice is made.
_TRIAL_FILES = {"run.json", "metrics.jsonl", MARK}
T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """A command to be run, with all that decides its result.

    Attributes:
        key: hash of what decides the result: two jobs with one key are the same training.
        parent: hash of the run that it starts from.
    """

    name: str
    folder: Path
    log: Path
    words: list[str]
    key: str
    parent: str | None = None


class RunFailed(PalateError):
    """A run's command ended with an error."""

    def __init__(self, job: Job, code: int) -> None:
        self.job, self.code, self.reason = job, code, _last_line(job.log)
        super().__init__(f"{job.name} failed ({self.reason or f'exit code {code}'}); see {job.log}")


class JobRunner:
    """Makes the runs of a plan, and first the runs that those need.

    Args:
        fingerprint: of the dataset.
        execute: runs a command of Palate.
        value: metric and value of a run's validation, for trials.
        keep_trials: whether runs of trials are kept whole.
        log: called with what happens.
        count: called with the name of each run that is there, and whether it was made now.
        jobs: runs at a time.
    """

    def __init__(
        self,
        plan: ComparisonPlan,
        fingerprint: str,
        *,
        execute: Execute,
        value: Callable[[Run], tuple[str, float]],
        keep_trials: bool = False,
        log: Callable[[str], None] = lambda text: None,
        count: Callable[[str, bool], None] = lambda name, made: None,
        jobs: int = 1,
    ) -> None:
        self.plan, self.recipe, self.out, self.fingerprint = plan, plan.recipe, plan.out, fingerprint
        self.execute, self.value, self.keep_trials, self.log, self.count = execute, value, keep_trials, log, count
        self._places = asyncio.Semaphore(jobs)
        self.chosen: dict[str, dict[str, Any]] = {}
        self._tasks: dict[object, asyncio.Task[Any]] = {}

    # -- what may be requested ------------------------------------------------------------------------------------

    async def choice(self, arm: str) -> dict[str, Any]:
        """The chosen settings of an arm that is searched; made at the first call."""
        return await self._once(("choice", arm), lambda: self._choose(arm))

    async def run(self, planned: PlannedRun) -> Run:
        """A final run, or the point of a curve; the arm's own run where that has the point's very value."""
        return await self._once(planned.folder, lambda: self._make(planned))

    async def make(self, planned: PlannedRun) -> None:
        """A run of any kind: of a trial, that and all others of its search."""
        await (self.choice(planned.arm) if planned.kind == "trial" else self.run(planned))

    async def carry_out(self, job: Job) -> None:
        """Run a job's command when there is a place for it.

        Raises:
            RunFailed: it ended with an error; the log says why.
        """
        async with self._places:
            self.log(f"{job.name}: started")
            code = await self.execute(job.words, job.log)
        if code != 0:
            raise RunFailed(job, code)

    # -- runs -----------------------------------------------------------------------------------------------------

    async def _once(self, key: object, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of ``make``, which is called at the first request only."""
        if key not in self._tasks:
            self._tasks[key] = asyncio.create_task(make())
        # Shielded: that one who waits gives up does not take the run from the others.
        result: T = await asyncio.shield(self._tasks[key])
        return result

    async def _make(self, planned: PlannedRun) -> Run:
        own = await self.run(self.plan.final(planned.arm, planned.seed)) if planned.kind == "point" else None
        job = await self._job(planned)
        if own is not None and job.key == read_mark(own.folder).get("key"):
            self.count(job.name, False)
            return own
        try:
            run, made = await self._ensure(job)
        except PalateError as error:
            self.log(str(error))
            raise
        if made:
            self.log(f"{job.name}: {_summary(run)}")
        return run

    async def _job(self, planned: PlannedRun) -> Job:
        """The job of a planned run; makes the runs that it starts from."""
        parents = await together(self.run(parent) for parent in self.plan.parents(planned))
        searched = [arm for arm in self.recipe.choices_of(planned.arm) if planned.kind != "trial" or arm != planned.arm]
        options = self.plan.options(planned, {arm: await self.choice(arm) for arm in searched})
        proposes = self.plan.retriever(planned, options)
        retriever = None if proposes is None else await self.run(proposes)
        command = self.plan.command(planned, options)
        states = [file_digest(parent.folder / "run.json") for parent in parents]
        marks = [read_mark(parent.folder).get("key") for parent in parents]
        # One run that it starts from is written as it always was, so that comparisons made before are found again.
        state = digest(*states) if len(states) > 1 else next(iter(states), None)
        mark = marks if len(marks) > 1 else next(iter(marks), None)
        parts = [self.recipe.arms[planned.arm].command, command.decides, planned.seed, self.fingerprint, mark]
        if retriever is not None:
            state = digest(str(state), file_digest(retriever.folder / "run.json"))
            parts.append(read_mark(retriever.folder).get("key"))
        log = self.out / "logs" / f"{planned.name}.log"
        return Job(planned.name, planned.folder, log, command.words, key_of(*parts), state)

    async def _ensure(self, job: Job) -> tuple[Run, bool]:
        """The finished run of a job: found, or made, or gone on with; and whether there was anything to do.

        Raises:
            RunFailed: its command failed; the log says why.
        """
        mark, facts = read_mark(job.folder), {"parent": job.parent, "command": ["palate", *job.words]}
        started = (job.folder / "run.json").is_file()
        finished = started and Run.open(job.folder).finished
        if finished and mark.get("parent") != job.parent:
            raise PalateError(
                f"{job.folder} was made from an earlier state of a run that it starts from",
                "Remove it (it is made again), or choose another --out.",
            )
        if finished and mark.get("key") == job.key:
            self.count(job.name, False)
            return Run.open(job.folder), False
        if not started:
            write_mark(job.folder, job.key, **facts)
        await self.carry_out(job)
        run = Run.open(job.folder)
        if not run.finished:
            raise PalateError(f"{job.folder} did not come to its end", f"See {job.log}.")
        write_mark(job.folder, job.key, **facts)
        self.count(job.name, True)
        return run, True

    # -- trials ---------------------------------------------------------------------------------------------------

    async def _choose(self, arm: str) -> dict[str, Any]:
        folder = self.out / "trials" / arm
        trials = TrialLog(folder, self.plan.search_of(arm))
        spaces = {name: space.model_dump(mode="json") for name, space in trials.search.space.items()}

        async def trial(number: int, params: dict[str, Any]) -> Trial:
            job = await self._job(self.plan.trial(arm, number, params))
            key = key_of(job.key, job.parent, spaces)
            stored = trials.find(number, key)
            if stored is None:
                return trials.save(await self._trial(job, number, params, key))
            self.count(job.name, False)
            return stored

        while batch := trials.ask():
            trials.done += await together(trial(number, params) for number, params in batch)
        best = best_of(trials.done)
        if best is None:
            reason = f"{arm}: all {len(trials.done)} trials failed ({trials.done[0].error})"
            raise PalateError(reason, f"See {self.out / 'logs'}.")
        self._record(arm, best, trials.done)
        self._clear(arm, best, trials.done)
        return best.params

    async def _trial(self, job: Job, number: int, params: dict[str, Any], key: str) -> Trial:
        clear_other(job.folder, job.key)
        try:
            run, _ = await self._ensure(job)
            metric, value = self.value(run)
        except RunFailed as error:
            if error.code != _REFUSED:
                self.log(str(error))
                raise
            self.log(f"{job.name}: refused ({error.reason})")
            return Trial(number, params, None, None, 0.0, error.reason or str(error), key)
        self.log(f"{job.name}: {metric} {value:.5f} with {_listed(params)}")
        return Trial(number, params, value, metric, float(run.info.get("seconds") or 0.0), None, key)

    def _record(self, arm: str, best: Trial, done: Sequence[Trial]) -> None:
        self.chosen[arm] = {
            "settings": best.params,
            "metric": best.metric,
            "value": best.value,
            "trial": best.number,
            "trials": len(done),
            "failed": sum(trial.value is None for trial in done),
            "seed": self.plan.first_seed,
            "seconds": round(sum(trial.seconds for trial in done), 3),
        }
        path = self.out / "chosen.json"
        before = read_json(path) if path.is_file() else {}
        known = {**before, **self.chosen}
        if known == before:
            return
        write_json(path, {name: known[name] for name in self.recipe.arms if name in known})
        figure = f"{best.metric} {best.value:.5f}, {counted(len(done), 'trial')}"
        self.log(f"{arm}: chosen {_listed(best.params)} ({figure})")

    def _clear(self, arm: str, best: Trial, done: Sequence[Trial]) -> None:
        """The chosen trial becomes the final run of its seed; of the others only the figures remain."""
        if self.keep_trials:
            return
        final = self.plan.final(arm, self.plan.first_seed).folder
        winner = self.plan.trial(arm, best.number, best.params).folder
        if winner.exists() and not final.exists():
            final.parent.mkdir(parents=True, exist_ok=True)
            winner.replace(final)
        for trial in done:
            for path in self.plan.trial(arm, trial.number, trial.params).folder.glob("*"):
                if path.name not in _TRIAL_FILES:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()


async def make_all(runner: JobRunner, runs: Iterable[PlannedRun]) -> list[PalateError]:
    """Make runs; those that do not depend on a failed one are made all the same.

    Returns:
        What failed.
    """
    failures: dict[str, PalateError] = {}
    for result in await asyncio.gather(*map(runner.make, runs), return_exceptions=True):
        if isinstance(result, PalateError):
            failures[str(result)] = result
        elif isinstance(result, BaseException):
            raise result
    return list(failures.values())


async def together(work: Iterable[Awaitable[T]]) -> list[T]:
    """Results of awaitables; the first error is raised when all have come to their end, so that none is lost."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]


def _last_line(log: Path) -> str:
    """The last line of a log's output: an error of Palate, or that of a traceback."""
    if not log.is_file():
        return ""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return "" if not lines or lines[-1].startswith("$ ") else lines[-1].removeprefix("Error: ")


def _summary(run: Run) -> str:
    best = run.info.get("best") or {}
    numbers = ", ".join(f"{name} {value:.4f}" for name, value in best.items() if "@" in name)
    seconds = run.info.get("seconds")
    return f"finished{f' in {seconds:.0f} s' if seconds else ''}{f' ({numbers} on validation)' if numbers else ''}"


def _listed(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in params.items())
