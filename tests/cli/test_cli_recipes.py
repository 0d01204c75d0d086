"""Options from a TOML file: precedence, merging, and mistakes that are told where they stand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest
import typer

from palate.cli.shared.options import ConfigFile, Seed, Set, parse_assignments, parse_mapping, split_ids
from palate.errors import PalateError
from palate.storage.toml import read_toml, write_tables

Seen = dict[str, Any]


class Command:
    """An application with one command that writes down what reaches it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.app = typer.Typer(pretty_exceptions_enable=False)

        @self.app.callback()
        def root() -> None: ...

        @self.app.command("train")
        def train(
            dataset: Path,
            model: Annotated[str, typer.Option()],
            modalities: str = "id",
            epochs: int | None = None,
            only: Annotated[list[str] | None, typer.Option()] = None,
            columns: Annotated[str | None, typer.Option()] = None,
            exclude_seen: Annotated[bool, typer.Option("--exclude-seen/--keep-seen")] = True,
            seed: Seed = 0,
            set_: Set = None,
            config: ConfigFile = None,
        ) -> None:
            self.seen = dict(locals())

    def __call__(self, recipe: str, *words: str) -> Seen:
        path = self.folder / "recipe.toml"
        path.write_text(recipe)
        self.app(["train", *words, "--config", str(path)], standalone_mode=False)
        return self.seen


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


RECIPE = """
[train]
dataset = "data/shop"
model = "sasrec"
modalities = ["id", "text"]
seed = 3
exclude-seen = false
only = ["colour=red"]
columns = {user = "uid", item = "sku"}

[train.ranker]
dropout = 0.4
norm = "pre"

[train.trainer]
betas = [0.9, 0.98]
"""


def test_the_recipe_fills_in(command: Command) -> None:
    seen = command(RECIPE)
    assert seen["dataset"] == Path("data/shop")
    assert (seen["model"], seen["modalities"], seen["seed"]) == ("sasrec", "id,text", 3)
    assert seen["exclude_seen"] is False
    assert seen["only"] == ["colour=red"]
    assert seen["columns"] == "user=uid,item=sku"
    assert seen["epochs"] is None  # neither says it: the default
    settings = parse_assignments(seen["set_"])
    assert settings == {"ranker": {"dropout": 0.4, "norm": "pre"}, "trainer": {"betas": [0.9, 0.98]}}


def test_a_choice_and_its_settings_share_a_table(command: Command) -> None:
    seen = command(RECIPE.replace('model = "sasrec"\n', "") + '\n[train.model]\nname = "gru4rec"\nlayers = 2\n')
    assert seen["model"] == "gru4rec"
    assert parse_assignments(seen["set_"])["model"] == {"layers": 2}


def test_names_with_commas_stay_whole(command: Command) -> None:
    """A list of TOML is joined as the command line would have it: in quotes where a name needs them."""
    seen = command(
        '[train]\nmodel = "m"\nmodalities = ["id", "Customer, ID"]\n'
        'columns = { user = "Customer, ID", item = "sku" }\n',
        "data",
    )
    assert split_ids(seen["modalities"]) == ["id", "Customer, ID"]
    assert parse_mapping(seen["columns"], "--columns") == {"user": "Customer, ID", "item": "sku"}


def test_an_argument_of_several_values(tmp_path: Path) -> None:
    app, seen = typer.Typer(pretty_exceptions_enable=False), []

    @app.callback()
    def root() -> None: ...

    @app.command("evaluate")
    def evaluate(runs: list[Path], config: ConfigFile = None) -> None:
        seen.extend(runs)

    (tmp_path / "recipe.toml").write_text('[evaluate]\nruns = ["runs/a", "runs/b"]\n')
    app(["evaluate", "--config", str(tmp_path / "recipe.toml")], standalone_mode=False)
    assert seen == [Path("runs/a"), Path("runs/b")]


@pytest.mark.parametrize(("value", "excluded"), [("true", False), ("false", True), ('"yes"', False)])
def test_the_second_name_of_a_flag_turns_it_off(command: Command, value: str, excluded: bool) -> None:
    recipe = f'[train]\nmodel = "sasrec"\nkeep-seen = {value}\n'
    assert command(recipe, "data")["exclude_seen"] is excluded
    assert command(recipe, "data", "--exclude-seen")["exclude_seen"] is True  # the command line wins here, too


def test_the_command_line_wins_one_by_one(command: Command) -> None:
    seen = command(RECIPE, "other", "--seed", "9", "--exclude-seen", "--set", "ranker.dropout=0.1", "--epochs", "2")
    assert seen["dataset"] == Path("other")
    assert (seen["model"], seen["seed"], seen["exclude_seen"], seen["epochs"]) == ("sasrec", 9, True, 2)
    assert parse_assignments(seen["set_"])["ranker"] == {"dropout": 0.1, "norm": "pre"}


def test_a_recipe_does_not_leak_into_the_next_call(command: Command) -> None:
    command(RECIPE)
    seen = command('[train]\nmodel = "gru4rec"\n', "data")
    assert (seen["model"], seen["seed"], seen["set_"]) == ("gru4rec", 0, None)


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        ('[train]\nmodalitis = "id"\n', "recipe.toml [train]: unknown option 'modalitis'. Did you mean 'modalities'?"),
        ('[tain]\nmodel = "x"\n', "recipe.toml has no table [train]. Did you mean 'tain'?"),
        ("", "recipe.toml has no table [train]. The file is empty."),
        ("[train\n", "recipe.toml is not valid TOML"),
        ('[train]\nseed = "three"\n', "recipe.toml [train]: 'seed': "),
        ("[train]\nseed = -1\n", "recipe.toml [train]: 'seed': "),
        ('[train]\nexclude_seen = "perhaps"\n', "recipe.toml [train]: 'exclude_seen': "),
        ('[train]\nkeep_seen = "perhaps"\n', "recipe.toml [train]: 'keep_seen': "),
        ("[train]\nkeep-seen = true\nexclude-seen = true\n", "'exclude-seen' is an option that is given already"),
        ('[train]\nconfig = "other.toml"\n', "recipe.toml [train]: unknown option 'config'"),
    ],
)
def test_mistakes_name_file_table_and_key(command: Command, recipe: str, told: str) -> None:
    with pytest.raises(PalateError) as error:
        command(recipe, "data", "--model", "sasrec")
    assert told in str(error.value)


def test_a_recipe_that_is_not_there(command: Command, tmp_path: Path) -> None:
    with pytest.raises(PalateError, match=r"none\.toml does not exist"):
        command.app(["train", "data", "--config", str(tmp_path / "none.toml")], standalone_mode=False)


@pytest.mark.parametrize("wrong", ["dim=64", "ranker", "ranker.=3", ".dim=3", "=", "a.b"])
def test_a_setting_without_section_and_value_is_refused(wrong: str) -> None:
    with pytest.raises(PalateError, match=r"SECTION\.KEY=VALUE"):
        parse_assignments([wrong])


def test_settings_cannot_be_value_and_table_at_once() -> None:
    with pytest.raises(PalateError, match="'dim' is given a value as well"):
        parse_assignments(["ranker.dim=1", "ranker.dim.x=2"])


def test_a_line_break_smuggles_no_key_in() -> None:
    assert parse_assignments(["ranker.norm=1\nother = 2"]) == {"ranker": {"norm": "1\nother = 2"}}


def test_written_tables_are_read_back(tmp_path: Path) -> None:
    tables = {
        "train": {
            "model": 'sas"rec\\',
            "weird key": "line\nbreak\x07",
            "modalities": ["id", "text"],
            "rate": 1e-05,
            "resume": False,
            "ranker": {"dim": 64, "deep": {"er": [1, 2.5]}},
        }
    }
    path = tmp_path / "best.toml"
    path.write_text(write_tables(tables))
    assert read_toml(path) == tables
