"""Every recipe in the project names options that exist, so that a renamed setting cannot rot in a file nobody runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer

from palate.cli.commands import COMMANDS, build
from palate.cli.llm.settings import ALIGN, SFT
from palate.cli.shared.from_config import settings_of
from palate.cli.shared.options import _load, parse_assignments, read_table
from palate.experiments.read_recipe import read_recipe
from palate.experiments.tune_recipe import read_tune_recipe
from palate.mllm.alignment.config import check_alignment
from palate.mllm.finetune.sft import SFTPlan
from palate.storage.toml import read_toml
from palate.training.plan import make_plan

RECIPES = sorted((Path(__file__).resolve().parents[2] / "recipes").glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_for_tuning_is_sound(path: Path) -> None:
    if "tune" not in read_toml(path):
        pytest.skip("no [tune] in it")
    read_tune_recipe(path, also=COMMANDS).check(path.name)


def loaded(path: Path, *names: str) -> dict[str, Any]:
    """The options of a command's table, read as --config reads them: what is unknown or of a wrong type is refused.

    A command of commands is named with the one inside it: ``loaded(path, "mllm", "sft")``.
    """
    command = typer.main.get_command(build())
    context = command.context_class(command, info_name="palate")
    for name in names:
        command = vars(command)["commands"][name]
        context = command.context_class(command, info_name=name, parent=context)
    _load(context, path)
    return dict(context.default_map)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_tables_of_commands_name_known_options(path: Path) -> None:
    recipe, known = read_toml(path), vars(typer.main.get_command(build()))["commands"]
    for name in (set(COMMANDS) - {"tune", "compare"}) & set(recipe):  # these two are read by themselves
        inner = vars(known[name]).get("commands")
        for names in [(name, part) for part in recipe[name]] if inner else [(name,)]:
            assert loaded(path, *names), f"[{'.'.join(names)}] says nothing"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_arm_of_a_comparison_is_sound(path: Path) -> None:
    if "arm" not in read_toml(path):
        pytest.skip("no arms in it")
    recipe = read_recipe(path, also=COMMANDS)
    for name, arm in recipe.arms.items():
        command = typer.main.get_command(build())
        for word in arm.command.split():
            command = vars(command)["commands"][word]
        context = command.context_class(command, info_name=arm.command)
        values, settings = read_table(context, recipe.options(name, {}), f"{path.name} [arm.{name}]")
        values |= {
            one.name: one.process_value(context, values[one.name]) for one in command.params if one.name in values
        }
        if arm.command == "mllm sft":
            SFTPlan.of(settings_of(SFT, values, settings))
        if arm.command == "mllm align":
            check_alignment(
                values.get("objective", "dpo"),
                settings_of(ALIGN, values, settings),
                retriever=values.get("retriever"),
            )
        if arm.command == "train":
            names = str(values.get("modalities", "id")).split(",")
            objective = values.get("objective", "cross-entropy")
            make_plan(values["model"], names, "learned", objective, parse_assignments(settings))


def test_beauty_is_compared_with_the_history_kept() -> None:
    assert loaded(next(path for path in RECIPES if path.stem == "beauty"), "evaluate")["exclude_seen"] is False


def test_there_are_recipes_for_tuning() -> None:
    assert sum("tune" in read_toml(path) for path in RECIPES) >= 2
    assert "tune" in COMMANDS


def test_the_page_of_recipes_names_every_one() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
    assert [path.name for path in RECIPES if f"(../recipes/{path.name})" not in page] == []
