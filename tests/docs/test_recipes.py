"""Every recipe in the project names options that exist, so that a renamed setting cannot rot in a file nobody runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from palate.cli.app import COMMANDS
from palate.toml import read_toml
from palate.training.search_space import TuneRecipe

RECIPES = sorted((Path(__file__).resolve().parents[2] / "recipes").glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_for_tuning_is_sound(path: Path) -> None:
    recipe = read_toml(path)
    if "tune" not in recipe:
        pytest.skip("no [tune] in it")
    TuneRecipe.parse(recipe["tune"], where=path.name).check(path.name)


def test_there_are_recipes_for_tuning() -> None:
    assert sum("tune" in read_toml(path) for path in RECIPES) >= 2
    assert "tune" in COMMANDS
