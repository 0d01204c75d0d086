"""Options made from a Config: each field's type, bounds, default and help, and only what was set."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from pydantic import Field
from typer.testing import CliRunner

from palate.cli.shared.from_config import Fields, Settings, from_config
from palate.cli.shared.options import ConfigFile
from palate.config import Config
from palate.errors import PalateError


class Cooking(Config):
    """A Config with a field of every kind."""

    minutes: int = Field(20, ge=1, le=90, description="How long.")
    salt: float = Field(0.5, ge=0, description="In grams.")
    method: Literal["boil", "fry"] = Field("boil", description="What is done.")
    portions: int | Literal["all"] = Field(4, description="How many.")
    spices: tuple[str, ...] = Field((), description="By name.")
    renamed: dict[str, str] = Field(default_factory=dict, description="Other names.")
    recipe: Path | None = Field(None, description="A file.", examples=["FILE"])
    vegan: bool = Field(False, description="Without meat.")
    warm: bool = Field(True, description="Serve it warm.")


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    return []


@pytest.fixture
def app(seen: list[Any], monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    monkeypatch.setitem(sys.modules, "cooking", sys.modules[__name__])
    made = typer.Typer(pretty_exceptions_enable=False)

    @made.callback()
    def root() -> None: ...

    @made.command()
    @from_config(
        Fields("cooking:Cooking", "minutes", "salt", section="stove", spelled={"minutes": "--cooking-minutes"}),
        Fields("cooking:Cooking", *("method", "portions", "spices", "renamed", "recipe", "vegan", "warm")),
    )
    def cook(
        dish: Annotated[str, typer.Argument()], *, plates: int = 1, settings: Settings, config: ConfigFile = None
    ) -> None:
        """Cook a dish."""
        seen.append((dish, plates, settings))

    return made


def run(app: typer.Typer, *words: object) -> Any:
    return app(["cook", *map(str, words)], standalone_mode=False)


def test_what_was_not_given_is_left_out(app: typer.Typer, seen: list[Any]) -> None:
    run(app, "soup")
    run(app, "soup", "--plates", 2, "--salt", 0, "--no-warm")
    assert seen == [("soup", 1, {}), ("soup", 2, {"stove": {"salt": 0.0}, "warm": False})]


def test_every_kind_of_field_is_read(app: typer.Typer, seen: list[Any]) -> None:
    words = ("--method", "fry", "--portions", 3, "--spices", "cumin, anise", "--renamed", "pan=wok", "--vegan")
    run(app, "soup", *words, "--recipe", "a.txt", "--warm")
    settings = {"method": "fry", "portions": 3, "spices": ("cumin", "anise"), "renamed": {"pan": "wok"}, "vegan": True}
    assert seen == [("soup", 1, {**settings, "recipe": Path("a.txt"), "warm": True})]
    assert Cooking.parse(seen[0][2], "cook").spices == ("cumin", "anise")
    run(app, "soup", "--portions", "all")
    assert seen[1][2] == {"portions": "all"}


def test_an_option_wins_over_its_setting(app: typer.Typer, seen: list[Any]) -> None:
    run(app, "soup", "--set", "stove.minutes=3", "--set", "stove.salt=2", "--cooking-minutes", 5)
    assert seen[0][2] == {"stove": {"minutes": 5, "salt": 2}}


def test_a_recipe_gives_the_same_settings(app: typer.Typer, seen: list[Any], tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        '[cook]\ndish = "soup"\nspices = ["cumin"]\nrenamed = {pan = "wok"}\nvegan = false\nwarm = false\n'
        "cooking-minutes = 7\n[cook.stove]\nsalt = 1\n"
    )
    run(app, "--config", recipe)
    assert seen[0][2] == {
        "stove": {"salt": 1, "minutes": 7},
        "spices": ("cumin",),
        "renamed": {"pan": "wok"},
        "warm": False,
    }
    recipe.write_text("[cook]\ncooking-minutes = 91\n")
    with pytest.raises(PalateError, match=r"recipe\.toml \[cook\]: 'cooking-minutes': .*90"):
        run(app, "soup", "--config", recipe)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--portions", "few"), "--portions few: not a choice of 'portions'. Choose one of: a number, all."),
        (("--method", "bake"), "--method bake: not a choice of 'method'. Choose one of: boil, fry."),
        (("--renamed", "pan"), "--renamed pan: 'pan' is not of the form OUR=THEIRS"),
        (("--set", "stove=3"), "not of the form SECTION.KEY=VALUE"),
    ],
)
def test_mistakes_name_the_option(app: typer.Typer, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(PalateError) as error:
        run(app, "soup", *words)
    assert message in str(error.value)


def test_help_says_what_the_config_says(app: typer.Typer) -> None:
    output = CliRunner(env={"COLUMNS": "160"}).invoke(app, ["cook", "--help"]).output
    for text in (
        *("--cooking-minutes", "How long (default: 20).", "[1<=x<=90]", "{boil,fry}", "{N,all}", "OUR=THEIRS,..."),
        *("--no-warm", "Without meat.", "FILE", "--set", "SECTION.KEY=VALUE", "Cook a dish."),
    ):
        assert text in output
    assert "--no-vegan" not in output
