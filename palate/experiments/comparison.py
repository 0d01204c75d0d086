"""A whole comparison from its recipe: what will be run, the runs, the table, and what it all cost."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palate.console import Table
from palate.data.dataset import Dataset
from palate.errors import PalateError, suggest
from palate.evaluation.compare import Comparison, compare
from palate.evaluation.groups import RunGroup
from palate.evaluation.outputs import save_comparison
from palate.evaluation.protocol import Measure, SlowModels
from palate.experiments.jobs import JobRunner, OptionsReader, slug
from palate.experiments.recipe import Recipe, Space, override
from palate.experiments.sampler import SettingsSearch, key_of
from palate.experiments.search_space import Choices
from palate.rankers.registry import RANKERS
from palate.rankers.sequential import SequentialRanker
from palate.runs.run import Run
from palate.storage.files import file_digest, read_json

STAGES = ("trials", "train", "test", "curves")


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
        return STAGES.index(name) <= STAGES.index(self.until)

    def curve_seeds(self, recipe: Recipe, name: str) -> list[int]:
        return recipe.curves[name].seeds or [recipe.compare.seeds[0]]

    def finals(self, recipe: Recipe) -> list[tuple[str, int]]:
        """Every final run that is needed, those that others start from first."""
        found: dict[tuple[str, int], None] = {}

        def add(arm: str, seed: int) -> None:
            start = recipe.arms[arm].start
            retriever = recipe.retriever_of(arm, recipe.options(arm, {}))
            for other in (start, retriever):
                if other:
                    add(other, seed)
            for other, one in recipe.parts_of(arm, seed):
                add(other, one)
            before(arm)
            found[arm, seed] = None

        def before(arm: str) -> None:
            for searched in recipe.choices_of(arm):
                start = recipe.arms[searched].start
                if start:
                    add(start, recipe.compare.seeds[0])
                for other, one in recipe.parts_of(searched, recipe.compare.seeds[0]):
                    add(other, one)

        for arm in self.arms:
            before(arm)
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


def check_options(recipe: Recipe, read: OptionsReader) -> None:
    """Refuse what any command of the recipe would refuse: every arm, every end of a search, every point of a curve.

    Raises:
        PalateError: naming the table and the value.
    """
    for name, arm in recipe.arms.items():
        where = f"{recipe.path} [arm.{name}]"
        table = recipe.options(name, {})
        read(arm.command, table, where)
        if arm.command == "mllm align" and "retriever" in table:
            _check_retriever(recipe, table["retriever"], where)
        if arm.start and recipe.arms[arm.start].command == "train":
            model = recipe.options(arm.start, {})["model"]
            if not issubclass(RANKERS[model], SequentialRanker):
                raise PalateError(
                    f"{where}: '{arm.start}' is a {model}, which is not trained by gradient: it cannot be aligned",
                    "Start from a sasrec or gru4rec.",
                )
        for key, space in arm.search.items():
            told = [
                read(arm.command, override(table, {key: value}), f"{where} search: with {key} = {value}").decides
                for value in _ends(space)
            ]
            _refuse_idle(key, told, f"{where} search")
    for name, curve in recipe.curves.items():
        table = recipe.options(curve.arm, {})
        where, command = f"{recipe.path} [curve.{name}]", recipe.arms[curve.arm].command
        told = [
            read(command, override(table, {curve.setting: value}), f"{where}: with {curve.setting} = {value}").decides
            for value in curve.values
        ]
        _refuse_idle(curve.setting, told, where)


def _check_retriever(recipe: Recipe, named: Any, where: str) -> None:
    if named in recipe.arms:
        if recipe.arms[named].command not in ("train", "align"):
            raise PalateError(f"{where}: the retriever '{named}' is a language model", "Name an arm that is fast.")
    elif not Path(str(named)).is_dir():
        raise PalateError(
            f"{where}: 'retriever' names neither an arm nor a run: '{named}'", suggest(str(named), recipe.arms)
        )


def _refuse_idle(key: str, told: Sequence[Mapping[str, Any]], where: str) -> None:
    """A setting that another option overrules would be varied in vain."""
    if len(told) > 1 and all(one == told[0] for one in told):
        raise PalateError(
            f"{where}: '{key}' changes nothing", "Another option of the arm says the same: vary that, or leave it out."
        )


def _ends(space: Space) -> list[Any]:
    return space.choices if isinstance(space, Choices) else [space.low, space.high]


def plan(recipe: Recipe, wanted: Selection, read: OptionsReader, dataset: str, out: Path) -> list[dict[str, Any]]:
    """Every run, with its command as far as it is known before any choice is made."""
    rows: list[dict[str, Any]] = []
    first = recipe.compare.seeds[0]

    def row(name: str, arm: str, seed: int, folder: Path, over: Mapping[str, Any], open_: list[str]) -> None:
        start = recipe.arms[arm].start
        command = recipe.arms[arm].command
        table = override(recipe.options(arm, {}), over)
        retriever = recipe.retriever_of(arm, table)
        if retriever is not None:
            table["retriever"] = str(out / "runs" / f"{retriever}-{seed}")
        words = read(command, table, f"{recipe.path} [arm.{arm}]").words
        runs = [(start, seed)] if start else recipe.parts_of(arm, seed)
        sources = [str(out / "runs" / f"{other}-{one}") for other, one in runs] or [dataset]
        line = ["palate", *command.split(), *sources, *words, "--seed", str(seed), "--out", str(folder), "--resume"]
        rows.append({"name": name, "command": line, "and": open_})

    for arm in wanted.searched(recipe):
        space = recipe.arms[arm].search
        search = SettingsSearch(space, wanted.trials, first)
        before = [f"what is chosen for {other}" for other in recipe.choices_of(arm) if other != arm]
        proposed = [] if search.grid is not None else [f"proposals for {', '.join(space)}"]
        for number in range(search.size):
            name = f"trial-{arm}-{number:04d}"
            over = search.grid[number] if search.grid is not None else {}
            row(name, arm, first, out / "trials" / arm / f"{number:04d}", over, [*before, *proposed])
    for arm, seed in wanted.finals(recipe):
        row(f"{arm}-{seed}", arm, seed, out / "runs" / f"{arm}-{seed}", {}, _chosen(recipe, arm))
    for name in wanted.curves if wanted.stage("curves") else ():
        curve = recipe.curves[name]
        for value in curve.values:
            for seed in wanted.curve_seeds(recipe, name):
                folder = out / "curves" / name / f"{slug(value)}-{seed}"
                over = {curve.setting: value}
                row(f"curve-{name}-{slug(value)}-{seed}", curve.arm, seed, folder, over, _chosen(recipe, curve.arm))
    return rows


def _chosen(recipe: Recipe, arm: str) -> list[str]:
    return [f"what is chosen for {other}" for other in recipe.choices_of(arm)]


async def make(arms: JobRunner, wanted: Selection, *, curves: bool = False) -> list[PalateError]:
    """Make the runs; those that do not hang on a failed one are made all the same.

    Args:
        curves: make the runs of the curves rather than the trials and final runs.

    Returns:
        What failed.
    """
    recipe = arms.recipe
    work: list[Any] = []
    if curves:
        for name in wanted.curves:
            for seed in wanted.curve_seeds(recipe, name):
                work.append(arms.final(recipe.base, seed))
                work += [arms.point(name, value, seed) for value in recipe.curves[name].values]
    else:
        work += [arms.choice(name) for name in wanted.searched(recipe)]
        if wanted.stage("train"):
            work += [arms.final(name, seed) for name in wanted.arms for seed in wanted.seeds]
    failures: dict[str, PalateError] = {}
    for result in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(result, PalateError):
            failures[str(result)] = result
        elif isinstance(result, BaseException):
            raise result
    return list(failures.values())


async def final_groups(arms: JobRunner, names: Sequence[str], seeds: Sequence[int]) -> list[RunGroup]:
    """The finished final runs as rows."""
    return [RunGroup(name, tuple([await arms.final(name, seed) for seed in sorted(seeds)])) for name in names]


def judge(
    recipe: Recipe,
    groups: Sequence[RunGroup],
    dataset: Dataset,
    measure: Measure,
    folder: Path,
    costs: Mapping[str, Mapping[str, Any]],
    slow: SlowModels = lambda groups, split: {},
) -> Comparison | None:
    """The table of the final runs, saved as a folder; None where that holds it already.

    Args:
        slow: asked for the results of slow models, where there is no table yet.
    """
    facts = {
        "recipe": recipe.digest,
        "key": key_of(
            [[group.label, [file_digest(run.folder / "run.json") for run in group.runs]] for group in groups],
            recipe.evaluate,
            recipe.base,
            recipe.family,
            recipe.compare.split,
            costs,
        ),
        "training": costs,  # `costs` are those of scoring
    }
    known = read_json(folder / "table.json") if (folder / "table.json").is_file() else {}
    if known.get("key") == facts["key"]:
        return None
    split = recipe.compare.split
    evaluated = measure.evaluate(groups, dataset, split, slow(groups, split))
    labels = [group.label for group in groups]
    comparison = compare(
        evaluated,
        base=recipe.base,
        primary=measure.primary,
        seed=measure.seed,
        family=[name for name in recipe.family if name in labels],
    )
    save_comparison(folder, comparison, evaluated, facts=facts, more=[cost_table(costs)], replace=True)
    return comparison


def costs_of(
    recipe: Recipe, groups: Sequence[RunGroup], chosen: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """What each arm took, in seconds of training and validation, without the runs that it starts from."""
    rows = {}
    for group in groups:
        seconds = [_seconds(run) for run in group.runs]
        search = chosen.get(group.label, {})
        arm = recipe.arms[group.label]
        rows[group.label] = {
            "from": arm.start or " + ".join(arm.blend) or None,
            "like": arm.like,
            "runs": len(seconds),
            "seconds": round(sum(seconds), 3),
            "trials": search.get("trials", 0),
            "trial_seconds": search.get("seconds", 0.0),
            "chosen": search.get("settings", {}),
        }
    return rows


def _seconds(run: Run) -> float:
    return float(run.info.get("seconds") or 0.0)


def cost_table(costs: Mapping[str, Mapping[str, Any]]) -> Table:
    """One row an arm: where it starts, what it cost, what was chosen for it."""
    headers = ["arm", "from", "runs", "seconds a run", "seconds in all", "trials", "seconds of trials", "chosen"]
    rows = [
        [
            name,
            one["from"] or "scratch",
            str(one["runs"]),
            f"{one['seconds'] / one['runs']:,.1f}",
            f"{one['seconds']:,.1f}",
            str(one["trials"]),
            f"{one['trial_seconds']:,.1f}",
            ", ".join(f"{key} {value}" for key, value in one["chosen"].items())
            or (f"as {one['like']}" if one["like"] else ""),
        ]
        for name, one in costs.items()
    ]
    return Table("Cost: training and validation, without the runs that an arm starts from", headers, rows)
