"""The parts of a comparison around its runs: the options are checked before, the table and the costs come after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from palate.alignment.plan import check_alignable
from palate.console import Table
from palate.data.dataset import Dataset
from palate.errors import PalateError, suggest
from palate.evaluation.compare import Comparison, compare
from palate.evaluation.groups import RunGroup
from palate.evaluation.outputs import save_comparison
from palate.evaluation.settings import EvaluationSettings, SlowModels
from palate.experiments.plan import OptionsReader, Selection
from palate.experiments.recipe import Recipe
from palate.experiments.search import key_of
from palate.runs.run import Run, environment
from palate.storage.files import file_digest, read_json
from palate.training.attach import check_attachable


def check_options(recipe: Recipe, selection: Selection, read: OptionsReader) -> None:
    """Refuse what any command of the selection would refuse: every arm, every end of a search, every point of a curve.

    Raises:
        PalateError: naming the table and the value.
    """
    for name in selection.involved(recipe):
        where, arm = f"{recipe.path} [arm.{name}]", recipe.arms[name]
        table = recipe.options(name, {})
        read(arm.command, table, where)
        if arm.command == "mllm align" and "retriever" in table:
            _check_retriever(recipe, table["retriever"], where)
        if arm.start and recipe.arms[arm.start].command == "train":
            check = check_attachable if arm.command == "attach" else check_alignable
            check(recipe.options(arm.start, {})["model"], f"{where}: '{arm.start}'")
        for key, space in arm.search.items():
            ends = [(one, recipe.options(name, {name: {key: one}})) for one in space.ends()]
            decided = [read(arm.command, made, f"{where} search: with {key} = {one}").decides for one, made in ends]
            _refuse_idle(key, decided, f"{where} search")
    for name in selection.curves:
        curve = recipe.curves[name]
        where, command = f"{recipe.path} [curve.{name}]", recipe.arms[curve.arm].command
        points = [(value, recipe.options(curve.arm, {curve.arm: {curve.setting: value}})) for value in curve.values]
        decided = [read(command, table, f"{where}: with {curve.setting} = {value}").decides for value, table in points]
        _refuse_idle(curve.setting, decided, where)


def _check_retriever(recipe: Recipe, named: Any, where: str) -> None:
    if named in recipe.arms:
        if recipe.arms[named].command not in ("train", "align"):
            raise PalateError(f"{where}: the retriever '{named}' is a language model", "Name an arm that is fast.")
    elif not Path(str(named)).is_dir():
        raise PalateError(
            f"{where}: 'retriever' names neither an arm nor a run: '{named}'", suggest(str(named), recipe.arms)
        )


def _refuse_idle(key: str, decided: Sequence[Mapping[str, Any]], where: str) -> None:
    """A setting that another option overrules would be varied in vain."""
    if len(decided) > 1 and all(one == decided[0] for one in decided):
        raise PalateError(
            f"{where}: '{key}' changes nothing", "Another option of the arm says the same: vary that, or leave it out."
        )


def judge(
    recipe: Recipe,
    groups: Sequence[RunGroup],
    dataset: Dataset,
    settings: EvaluationSettings,
    folder: Path,
    costs: Mapping[str, Mapping[str, Any]],
    slow: SlowModels = lambda groups, split: {},
) -> Comparison | None:
    """The table of the final runs, saved as a folder; None where that holds it already.

    Args:
        slow: returns the results of slow models; called where there is no table yet.
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
    evaluated = settings.evaluate(groups, dataset, split, slow(groups, split))
    labels = [group.label for group in groups]
    comparison = compare(
        evaluated,
        base=recipe.base,
        primary=settings.primary,
        seed=settings.seed,
        family=[name for name in recipe.family if name in labels],
    )
    # Slow models were measured by commands of their own, each in a process of its own.
    made_by = {**(comparison.facts.get("environment") or {}), "command": environment()["command"]}
    facts = {**facts, "environment": made_by}
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
    """One row per arm: where it starts, what it cost, what was chosen for it."""
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
