"""The plan of a comparison: every run with its command and its folder. What is shown is what is made.

::

    OUT/
      runs/ARM-SEED/           the final runs
      trials/ARM/0003.json     what a trial showed; its run folder is trials/ARM/0003/ until a choice is made
      chosen.json              the chosen settings of every arm that was searched
      curves/NAME/VALUE-SEED/  the runs of a curve
      logs/                    the output of each command
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from palate.experiments.recipe import Recipe, Table
from palate.experiments.search import SettingsSearch

STAGES = ("trials", "train", "test", "curves")


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
class Selection:
    """What of a recipe is to be made.

    Attributes:
        arms: rows of the table, in the recipe's order.
        seeds: of the final runs.
        trials: for each arm that is searched.
        curves: names.
        until: the last of :data:`STAGES` to be done.
    """

    arms: list[str]
    seeds: list[int]
    trials: int
    curves: list[str]
    until: str = "curves"

    def stage(self, name: str) -> bool:
        """Whether a stage is to be done."""
        return STAGES.index(name) <= STAGES.index(self.until)

    def involved(self, recipe: Recipe) -> list[str]:
        """The arms of the table and the curves, and those that these start from or take options from."""
        found: dict[str, None] = {}

        def add(name: str) -> None:
            if name not in found:
                found[name] = None
                arm = recipe.arms[name]
                others = (arm.start, arm.like, recipe.retriever_of(name, recipe.options(name, {})), *arm.blend)
                for other in others:
                    if other is not None:
                        add(other)

        for name in [*self.arms, *(recipe.curves[curve].arm for curve in self.curves)]:
            add(name)
        return [name for name in recipe.arms if name in found]

    def curve_seeds(self, recipe: Recipe, name: str) -> list[int]:
        return recipe.curves[name].seeds or [recipe.compare.seeds[0]]

    def finals(self, recipe: Recipe) -> list[tuple[str, int]]:
        """Arm and seed of every final run that is needed, those that others start from first."""
        found: dict[tuple[str, int], None] = {}

        def add(arm: str, seed: int) -> None:
            retriever = recipe.retriever_of(arm, recipe.options(arm, {}))
            for other, one in [*recipe.parents_of(arm, seed), *([(retriever, seed)] if retriever else [])]:
                add(other, one)
            add_choices(arm)
            found[arm, seed] = None

        def add_choices(arm: str) -> None:
            for searched in recipe.choices_of(arm):
                for other, one in recipe.parents_of(searched, recipe.compare.seeds[0]):
                    add(other, one)

        for arm in self.arms:
            add_choices(arm)
            for seed in self.seeds if self.stage("train") else ():
                add(arm, seed)
        for name in self.curves if self.stage("curves") else ():
            for seed in self.curve_seeds(recipe, name):
                add(recipe.base, seed)
                add(recipe.curves[name].arm, seed)
        return list(found)

    def searched(self, recipe: Recipe) -> list[str]:
        """The arms that are searched, in the recipe's order."""
        arms = {*self.arms, *(arm for arm, _ in self.finals(recipe))}
        names = {other for arm in arms for other in recipe.choices_of(arm)}
        return [name for name in recipe.arms if name in names]


@dataclass(frozen=True)
class PlannedRun:
    """One run to be made.

    Attributes:
        kind: ``trial``, ``final`` or ``point`` (of a curve).
        settings: of its own, over the options of its arm and over what was chosen for it.
        open: what of its command is not known before other runs are made.
    """

    kind: str
    name: str
    arm: str
    seed: int
    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)
    open: tuple[str, ...] = ()


class ComparisonPlan:
    """All runs of a comparison, by their place in it.

    Args:
        out: the comparison's folder.
        dataset: its folder.
        read: checks options and turns them into words.
    """

    def __init__(self, recipe: Recipe, selection: Selection, out: Path, dataset: str, read: OptionsReader) -> None:
        self.recipe, self.selection, self.out, self.dataset, self.read = recipe, selection, out, dataset, read
        self.first_seed = recipe.compare.seeds[0]

    def search_of(self, arm: str) -> SettingsSearch:
        return SettingsSearch(self.recipe.arms[arm].search, self.selection.trials, self.first_seed)

    def trial(self, arm: str, number: int, settings: dict[str, Any] | None) -> PlannedRun:
        """A run with the first seed; ``settings`` is None where they are yet to be proposed."""
        proposals = () if settings is not None else (f"proposals for {', '.join(self.recipe.arms[arm].search)}",)
        waits = tuple(f"what is chosen for {other}" for other in self.recipe.choices_of(arm) if other != arm)
        folder = self.out / "trials" / arm / f"{number:04d}"
        name = f"trial-{arm}-{number:04d}"
        return PlannedRun("trial", name, arm, self.first_seed, folder, settings or {}, waits + proposals)

    def final(self, arm: str, seed: int) -> PlannedRun:
        """The run of an arm with its chosen settings."""
        name = f"{arm}-{seed}"
        return PlannedRun("final", name, arm, seed, self.out / "runs" / name, open=self._choices(arm))

    def point(self, curve: str, value: Any, seed: int) -> PlannedRun:
        """The run of an arm with its chosen settings but for the one that its curve varies."""
        varied, place = self.recipe.curves[curve], f"{slug(value)}-{seed}"
        folder = self.out / "curves" / curve / place
        settings, choices = {varied.setting: value}, self._choices(varied.arm)
        return PlannedRun("point", f"curve-{curve}-{place}", varied.arm, seed, folder, settings, choices)

    def _choices(self, arm: str) -> tuple[str, ...]:
        return tuple(f"what is chosen for {other}" for other in self.recipe.choices_of(arm))

    def trials(self) -> list[PlannedRun]:
        """Of every arm that is searched."""
        runs: list[PlannedRun] = []
        for arm in self.selection.searched(self.recipe):
            search = self.search_of(arm)
            runs += [self.trial(arm, n, search.grid[n] if search.grid else None) for n in range(search.size)]
        return runs

    def table_runs(self) -> list[PlannedRun]:
        """All trials, and the final runs of the table's arms; those that others start from come first."""
        without = replace(self.selection, curves=[])
        return [*self.trials(), *(self.final(arm, seed) for arm, seed in without.finals(self.recipe))]

    def curve_runs(self) -> list[PlannedRun]:
        """What the curves need beside the runs of the table: final runs with their seeds, and their points."""
        known = replace(self.selection, curves=[]).finals(self.recipe)
        finals = [one for one in self.selection.finals(self.recipe) if one not in known]
        curves = self.selection.curves if self.selection.stage("curves") else []
        return [
            *(self.final(arm, seed) for arm, seed in finals),
            *(run for name in curves for _, runs in self.points(name) for run in runs),
        ]

    def points(self, curve: str) -> list[tuple[Any, list[PlannedRun]]]:
        """Each value of a curve with its runs, one per seed."""
        seeds = self.selection.curve_seeds(self.recipe, curve)
        return [
            (value, [self.point(curve, value, seed) for seed in seeds]) for value in self.recipe.curves[curve].values
        ]

    def parents(self, run: PlannedRun) -> list[PlannedRun]:
        """The final runs that a run starts from."""
        return [self.final(arm, seed) for arm, seed in self.recipe.parents_of(run.arm, run.seed)]

    def options(self, run: PlannedRun, chosen: Mapping[str, Mapping[str, Any]]) -> Table:
        """All options of a run's command, where these settings were chosen for the arms that are searched."""
        own = {**chosen.get(run.arm, {}), **run.settings}
        return self.recipe.options(run.arm, {**chosen, run.arm: own})

    def retriever(self, run: PlannedRun, options: Table) -> PlannedRun | None:
        """The final run that proposes items to an alignment of a language model."""
        arm = self.recipe.retriever_of(run.arm, options)
        return self.final(arm, run.seed) if arm else None

    def command(self, run: PlannedRun, options: Table) -> CheckedOptions:
        """The whole command of a run, without the word ``palate``.

        Raises:
            PalateError: the command refuses these options.
        """
        retriever, command = self.retriever(run, options), self.recipe.arms[run.arm].command
        if retriever is not None:
            options = {**options, "retriever": str(retriever.folder)}
        checked = self.read(command, options, f"{self.recipe.path} [arm.{run.arm}]")
        sources = [str(parent.folder) for parent in self.parents(run)] or [self.dataset]
        place = ["--seed", str(run.seed), "--out", str(run.folder), "--resume"]
        return CheckedOptions([*command.split(), *sources, *checked.words, *place], checked.decides)

    def rows(self) -> list[dict[str, Any]]:
        """Every run for people and for ``plan.json``, with its command as far as it is known before any choice."""
        return [
            {
                "name": run.name,
                "command": ["palate", *self.command(run, self.options(run, {})).words],
                "and": list(run.open),
            }
            for run in [*self.table_runs(), *self.curve_runs()]
        ]


def slug(value: Any) -> str:
    """A value as part of a folder's name.

    >>> slug(0.1), slug("all"), slug("a/b")
    ('0.1', 'all', 'a_b')
    """
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return "".join(letter if letter.isalnum() or letter in "._+-" else "_" for letter in text)
