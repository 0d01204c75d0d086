"""The runs of a comparison: each made once, by a command in a process of its own, and found again later.

::

    OUT/
      runs/ARM-SEED/           the final runs
      trials/ARM/0003.json     what a trial showed; its run folder is trials/ARM/0003/ until a choice is made
      chosen.json              the chosen settings of every arm that was searched
      curves/NAME/VALUE-SEED/  the runs of a curve
      logs/                    what each command said
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from palate.errors import PalateError
from palate.experiments.processes import Execute
from palate.experiments.recipe import Curve, Recipe, Table
from palate.experiments.sampler import SettingsSearch, Trial, best_of, key_of, load_trials, save_trial
from palate.runs.run import Run
from palate.storage.files import digest, file_digest, read_json, write_json

MARK = "compare.json"
# Exit code of a command that refuses its input: the same command would refuse it again.
_REFUSED = 2
# What a trial leaves behind once the choice is made.
_KEPT = {"run.json", "metrics.jsonl", MARK}
T = TypeVar("T")


@dataclass(frozen=True)
class CheckedOptions:
    """A table of options, checked by who knows the command.

    Attributes:
        words: as the command line has them.
        decides: what decides the result: all options, defaults included, and the fingerprints of features.
    """

    words: list[str]
    decides: dict[str, Any] = field(default_factory=dict)


class OptionsReader(Protocol):
    """Checks a table of a command's options.

    Raises:
        PalateError: naming ``where``.
    """

    def __call__(self, command: str, table: Table, where: str) -> CheckedOptions: ...


@dataclass(frozen=True)
class Job:
    """One run to be made.

    Attributes:
        key: hash of what decides the result: two jobs with one key are the same training.
        parent: hash of the run that it starts from.
    """

    name: str
    folder: Path
    log: Path
    words: list[str]
    key: str
    parent: str | None


class RunFailed(PalateError):
    """A run's command ended with an error."""

    def __init__(self, job: Job, code: int) -> None:
        self.job, self.code, self.told = job, code, _last_words(job.log)
        super().__init__(f"{job.name} failed ({self.told or f'exit code {code}'}); see {job.log}")


class JobRunner:
    """Makes runs as they are asked for, and what those need first.

    Args:
        out: the comparison's folder.
        dataset: its folder and its fingerprint.
        read: checks options and turns them into words.
        execute: runs a command of Palate.
        value: metric and value of a run's validation, for trials.
        trials: for each arm that is searched.
        keep_trials: whether runs of trials are kept whole.
        say: told what happens.
        jobs: runs at a time.
        count: told the name of each run that is there, and whether it was made now.
    """

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        *,
        dataset: tuple[str, str],
        read: OptionsReader,
        execute: Execute,
        value: Callable[[Run], tuple[str, float]],
        trials: int,
        keep_trials: bool = False,
        say: Callable[[str], None] = lambda text: None,
        count: Callable[[str, bool], None] = lambda name, made: None,
        jobs: int = 1,
    ) -> None:
        self.recipe, self.out, self.dataset, self.read, self.execute = recipe, out, dataset, read, execute
        self.value, self.trials, self.keep_trials, self.say, self.count = value, trials, keep_trials, say, count
        self._places = asyncio.Semaphore(jobs)
        self.first = recipe.compare.seeds[0]
        self.chosen: dict[str, dict[str, Any]] = {}
        self._made: dict[object, asyncio.Task[Any]] = {}

    # -- what may be asked for ------------------------------------------------------------------------------------

    async def choice(self, arm: str) -> dict[str, Any]:
        """The chosen settings of an arm that is searched; made at the first call."""
        found: dict[str, Any] = await self._once(("choice", arm), lambda: self._choose(arm))
        return found

    async def final(self, arm: str, seed: int) -> Run:
        """The run of an arm with its chosen settings."""
        found: Run = await self._once(("final", arm, seed), lambda: self._final(arm, seed))
        return found

    async def point(self, name: str, value: Any, seed: int) -> Run:
        """The run of a curve's point; the arm's own run where that has this very value."""
        found: Run = await self._once(("point", name, str(value), seed), lambda: self._point(name, value, seed))
        return found

    async def job(self, name: str, arm: str, seed: int, settings: Mapping[str, Any], folder: Path) -> Job:
        """The job of an arm with these settings for its own; makes the run that it starts from."""
        start = self.recipe.arms[arm].start
        parents = [await self.final(start, seed)] if start else []
        parents += await together(self.final(other, one) for other, one in self.recipe.parts_of(arm, seed))
        others = {other: await self.choice(other) for other in self.recipe.choices_of(arm) if other != arm}
        table = self.recipe.options(arm, {**others, arm: settings})
        retriever = self.recipe.retriever_of(arm, table)
        proposes = await self.final(retriever, seed) if retriever else None
        return self._job(name, arm, seed, table, folder, parents, proposes)

    # -- how it is made -------------------------------------------------------------------------------------------

    async def _once(self, key: object, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of ``make``, which is called at the first question only."""
        if key not in self._made:
            self._made[key] = asyncio.create_task(make())
        # Shielded: that one who waits gives up does not take the run from the others.
        return await asyncio.shield(self._made[key])

    def _job(
        self,
        name: str,
        arm: str,
        seed: int,
        table: Table,
        folder: Path,
        parents: Sequence[Run],
        retriever: Run | None,
    ) -> Job:
        command = self.recipe.arms[arm].command
        if retriever is not None:
            table = {**table, "retriever": str(retriever.folder)}
        given = self.read(command, table, f"{self.recipe.path} [arm.{arm}]")
        sources = [str(parent.folder) for parent in parents] or [self.dataset[0]]
        words = [*command.split(), *sources, *given.words, "--seed", str(seed), "--out", str(folder), "--resume"]
        states = [file_digest(parent.folder / "run.json") for parent in parents]
        marks = [self.mark_of(parent.folder).get("key") for parent in parents]
        # One run that it starts from is written as it always was, so that comparisons made before are found again.
        state = digest(*states) if len(states) > 1 else next(iter(states), None)
        marked = marks if len(marks) > 1 else next(iter(marks), None)
        parts = [command, given.decides, seed, self.dataset[1], marked]
        if retriever is not None:
            state = digest(str(state), file_digest(retriever.folder / "run.json"))
            parts.append(self.mark_of(retriever.folder).get("key"))
        key = key_of(*parts)
        return Job(name, folder, self.out / "logs" / f"{name}.log", words, key, state)

    async def _ensure(self, job: Job) -> tuple[Run, bool]:
        """The finished run of a job: found, or made, or gone on with; and whether there was anything to do.

        Raises:
            RunFailed: its command failed; the log says why.
        """
        mark = self.mark_of(job.folder)
        finished = (job.folder / "run.json").is_file() and Run.open(job.folder).finished
        if finished and mark.get("parent") != job.parent:
            raise PalateError(
                f"{job.folder} was made from an earlier state of a run that it starts from",
                "Remove it (it is made again), or choose another --out.",
            )
        if finished and mark.get("key") == job.key:
            self.count(job.name, False)
            return Run.open(job.folder), False
        if not (job.folder / "run.json").is_file():
            self.write_mark(job)
        await self.carry_out(job)
        run = Run.open(job.folder)
        if not run.finished:
            raise PalateError(f"{job.folder} did not come to its end", f"See {job.log}.")
        self.write_mark(job)
        self.count(job.name, True)
        return run, True

    async def carry_out(self, job: Job) -> None:
        """Run a job's command when there is a place for it.

        Raises:
            RunFailed: it ended with an error; the log says why.
        """
        async with self._places:
            self.say(f"{job.name}: started")
            code = await self.execute(job.words, job.log)
        if code != 0:
            raise RunFailed(job, code)

    def mark_of(self, folder: Path) -> dict[str, Any]:
        """What :meth:`write_mark` left in a folder; empty where nothing did."""
        path = folder / MARK
        found = read_json(path) if path.is_file() else {}
        return found if isinstance(found, dict) else {}

    def write_mark(self, job: Job) -> None:
        """Say in a job's folder what decides its result."""
        write_json(job.folder / MARK, {"key": job.key, "parent": job.parent, "command": ["palate", *job.words]})

    async def _final(self, arm: str, seed: int) -> Run:
        name = f"{arm}-{seed}"
        job = await self.job(name, arm, seed, await self._own(arm), self.out / "runs" / name)
        return await self._tell(job)

    async def _tell(self, job: Job) -> Run:
        try:
            run, made = await self._ensure(job)
        except PalateError as error:
            self.say(str(error))
            raise
        if made:
            self.say(f"{job.name}: {_line(run)}")
        return run

    async def _point(self, name: str, value: Any, seed: int) -> Run:
        curve: Curve = self.recipe.curves[name]
        own = await self.final(curve.arm, seed)
        folder = self.out / "curves" / name / f"{slug(value)}-{seed}"
        settings = {**await self._own(curve.arm), curve.setting: value}
        job = await self.job(f"curve-{name}-{slug(value)}-{seed}", curve.arm, seed, settings, folder)
        if job.key == self.mark_of(own.folder).get("key"):
            self.count(job.name, False)
            return own
        return await self._tell(job)

    async def _own(self, arm: str) -> dict[str, Any]:
        return await self.choice(arm) if self.recipe.arms[arm].search else {}

    # -- trials ---------------------------------------------------------------------------------------------------

    async def _choose(self, arm: str) -> dict[str, Any]:
        space = self.recipe.arms[arm].search
        search = SettingsSearch(space, self.trials, self.first)
        folder = self.out / "trials" / arm
        stored = load_trials(folder)
        told = {name: one.model_dump(mode="json") for name, one in space.items()}
        done: list[Trial] = []

        async def one(number: int, params: dict[str, Any]) -> Trial:
            name = f"trial-{arm}-{number:04d}"
            job = await self.job(name, arm, self.first, params, folder / f"{number:04d}")
            key = key_of(job.key, job.parent, told)
            if number in stored:
                if stored[number].key != key:
                    raise PalateError(
                        f"{folder} holds trials of another search, with other options or of another base",
                        "Remove it, and it is made again; or choose another --out.",
                    )
                self.count(job.name, False)
                return stored[number]
            trial = await self._trial(job, number, params, key)
            save_trial(folder, trial)
            return trial

        if search.grid is not None:
            done += await together(one(number, params) for number, params in enumerate(search.grid))
        while search.grid is None and len(done) < search.size:
            number = len(done)
            proposed = stored[number].params if number in stored else search.propose(done)
            if proposed is None:
                break
            done.append(await one(number, proposed))
        best = best_of(done)
        if best is None:
            raise PalateError(f"{arm}: all {len(done)} trials failed ({done[0].error})", f"See {self.out / 'logs'}.")
        self._record(arm, best, done)
        await self._clear(arm, best, done)
        return best.params

    async def _trial(self, job: Job, number: int, params: dict[str, Any], key: str) -> Trial:
        if job.folder.exists() and self.mark_of(job.folder).get("key") != job.key:
            shutil.rmtree(job.folder)  # left by a search with other options that was interrupted here
        try:
            run, _ = await self._ensure(job)
            metric, value = self.value(run)
        except RunFailed as error:
            if error.code != _REFUSED:
                self.say(str(error))
                raise
            self.say(f"{job.name}: refused ({error.told})")
            return Trial(number, params, None, None, 0.0, error.told or str(error), key)
        self.say(f"{job.name}: {metric} {value:.5f} with {_params(params)}")
        return Trial(number, params, value, metric, float(run.info.get("seconds") or 0.0), None, key)

    def _record(self, arm: str, best: Trial, done: Sequence[Trial]) -> None:
        self.chosen[arm] = {
            "settings": best.params,
            "metric": best.metric,
            "value": best.value,
            "trial": best.number,
            "trials": len(done),
            "failed": sum(trial.value is None for trial in done),
            "seed": self.first,
            "seconds": round(sum(trial.seconds for trial in done), 3),
        }
        path = self.out / "chosen.json"
        before = read_json(path) if path.is_file() else {}
        known = {**before, **self.chosen}
        if known == before:
            return
        write_json(path, {name: known[name] for name in self.recipe.arms if name in known})
        self.say(f"{arm}: chosen {_params(best.params)} ({best.metric} {best.value:.5f}, {len(done)} trials)")

    async def _clear(self, arm: str, best: Trial, done: Sequence[Trial]) -> None:
        """The chosen trial is the final run of its seed; of the others only the figures stay."""
        folder = self.out / "trials" / arm
        final = self.out / "runs" / f"{arm}-{self.first}"
        winner = folder / f"{best.number:04d}"
        if winner.exists() and not final.exists() and not self.keep_trials:
            final.parent.mkdir(parents=True, exist_ok=True)
            winner.replace(final)
        if not self.keep_trials:
            for trial in done:
                for path in (folder / f"{trial.number:04d}").glob("*"):
                    if path.name not in _KEPT:
                        shutil.rmtree(path) if path.is_dir() else path.unlink()


async def together(work: Any) -> list[Any]:
    """Results of awaitables; the first error is raised when all have come to their end, so that none is lost."""
    coroutines: list[Awaitable[Any]] = list(work)
    results = await asyncio.gather(*coroutines, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def slug(value: Any) -> str:
    """A value as part of a folder's name.

    >>> slug(0.1), slug("all"), slug("a/b")
    ('0.1', 'all', 'a_b')
    """
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return "".join(letter if letter.isalnum() or letter in "._+-" else "_" for letter in text)


def _last_words(log: Path) -> str:
    """The last line of a log that says something: an error of Palate, or that of a traceback."""
    if not log.is_file():
        return ""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return "" if not lines or lines[-1].startswith("$ ") else lines[-1].removeprefix("Error: ")


def _line(run: Run) -> str:
    best = run.info.get("best") or {}
    numbers = ", ".join(f"{name} {value:.4f}" for name, value in best.items() if "@" in name)
    seconds = run.info.get("seconds")
    return f"finished{f' in {seconds:.0f} s' if seconds else ''}{f' ({numbers} on validation)' if numbers else ''}"


def _params(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in params.items())
