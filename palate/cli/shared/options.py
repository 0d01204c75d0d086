"""Options that many commands share: the TOML file, the seed, and how they reach the parameters."""

from __future__ import annotations

import csv
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from palate.cli.shared.command import empty_path, path_names
from palate.errors import PalateError, suggest
from palate.names import field_names, quoted_name, split_names, unquoted_name
from palate.storage.small_files import parse_toml
from palate.storage.toml import read_toml, to_toml

# Where the callback of --config leaves a recipe's sub-tables for the callback of --set.
_SETTINGS = "palate.settings"


def table_of(path: Path, command: str) -> dict[str, Any]:
    """The table that a recipe holds for a command; a dot leads into a command of commands (``summarise.items``)."""
    table = read_toml(path)
    for name in command.split("."):
        within = table.get(name)
        if not isinstance(within, dict):
            raise PalateError(
                f"{path} has no table [{command}]", suggest(name, table) if table else "The file is empty."
            )
        table = within
    return table


def _load(context: typer.Context, path: Path | None) -> Path | None:
    """Put the file's table for this command behind the options given on the command line."""
    if path is None:
        return None
    command = _name_of(context)
    values, settings = read_table(context, table_of(path, command), f"{path} [{command}]")
    context.default_map = {**(context.default_map or {}), **values}
    context.meta[_SETTINGS] = settings
    return path


def _name_of(context: typer.Context) -> str:
    """The command as a recipe's table names it: ``train``, ``summarise.items``."""
    names = [context.info_name or ""]
    above = context.parent
    while above is not None and above.parent is not None:
        names.insert(0, above.info_name or "")
        above = above.parent
    return ".".join(names)


def read_table(context: typer.Context, table: dict[str, Any], where: str) -> tuple[dict[str, Any], list[str]]:
    """A recipe's table as values by parameter name, and its sub-tables as words for ``--set``.

    Raises:
        PalateError: naming ``where``: an unknown option, or a value that the option's type refuses.
    """
    # An option is known by its long name without the dashes; "set" alone is spelt as sub-tables.
    known: dict[str, Any] = {}
    negated: set[str] = set()  # the second names of flags, such as keep-seen of --exclude-seen/--keep-seen
    for parameter in context.command.params:
        if parameter.name in ("config", "help", "set_"):
            continue
        names = [name[2:] for name in parameter.opts if name.startswith("--")] or [str(parameter.name)]
        off = [name[2:] for name in getattr(parameter, "secondary_opts", ()) if name.startswith("--")]
        known.update(dict.fromkeys([*names, *off], parameter))
        negated.update(off)
    takes_settings = any(parameter.name == "set_" for parameter in context.command.params)
    values: dict[str, Any] = {}
    settings: list[str] = []
    for key, value in table.items():
        name = key.replace("_", "-")
        if takes_settings and isinstance(value, dict) and (name not in known or "name" in value):
            # A sub-table such as [train.ranker] is --set ranker.KEY=VALUE; where there is an option of that
            # name as well, its "name" is the option's value: [train.objective] name = "gbce", num_negatives = 64.
            if name in known:
                values[known[name].name] = _as_typed(context, known[name], value["name"], f"{where}: '{key}.name'")
                value = {k: v for k, v in value.items() if k != "name"}
            settings += _assignments(key, value)
        elif name not in known:
            raise PalateError(f"{where}: unknown option '{key}'", suggest(name, known))
        elif known[name].name in values:
            raise PalateError(f"{where}: '{key}' is an option that is given already", "Leave one of them out.")
        else:
            typed = _as_typed(context, known[name], value, f"{where}: '{key}'")
            # A flag's own type reads what TOML may hold besides true and false, such as "yes".
            values[known[name].name] = not known[name].process_value(context, typed) if name in negated else typed
    return values, settings


def _after_recipe(context: typer.Context, assignments: list[str] | None) -> list[str] | None:
    """A recipe's settings first, then those of the command line, which win one by one."""
    return [*context.meta.get(_SETTINGS, []), *(assignments or [])] or None


def _assignments(prefix: str, table: dict[str, Any]) -> list[str]:
    rows: list[str] = []
    for key, value in table.items():
        name = f"{prefix}.{key}"
        rows += _assignments(name, value) if isinstance(value, dict) else [f"{name}={to_toml(value)}"]
    return rows


def _as_typed(context: typer.Context, parameter: Any, value: Any, where: str) -> Any:
    """The option's value as the command line would have it, checked by the option's own type."""
    if parameter.multiple or parameter.nargs == -1:
        value = value if isinstance(value, list) else [value]
    elif isinstance(value, list):
        value = ",".join(quoted_name(str(item)) for item in value)
    elif isinstance(value, dict):
        value = ",".join(f"{quoted_name(key)}={quoted_name(str(item))}" for key, item in value.items())
    if value == "" and parameter.name in path_names(context.command):
        raise empty_path(where)
    try:
        parameter.process_value(context, value)
    except typer.BadParameter as error:  # the option's type says what is wrong; here it gets the place
        raise PalateError(f"{where}: {error.message}", "Correct the value.") from None
    return value


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """Turn ``["ranker.dim=64", "ranker.norm=pre"]`` into nested dicts; values are TOML literals or plain words.

    >>> parse_assignments(["ranker.dim=64", "ranker.norm=pre", "trainer.lr=1e-3"])
    {'ranker': {'dim': 64, 'norm': 'pre'}, 'trainer': {'lr': 0.001}}
    """
    nested: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        parts = key.strip().split(".")
        if not equals or len(parts) < 2 or not all(parts):
            raise PalateError(
                f"--set {assignment}: not of the form SECTION.KEY=VALUE", "For example --set ranker.dim=128."
            )
        here = nested
        for part in parts[:-1]:
            here = here.setdefault(part, {})
            if not isinstance(here, dict):
                raise PalateError(f"--set {assignment}: '{part}' is given a value as well", "Give one or the other.")
        here[parts[-1]] = _value(text)
    return nested


def _value(text: str) -> Any:
    """A TOML literal, or else a plain word."""
    try:
        tomllib.loads(f"v = {text}")
    except tomllib.TOMLDecodeError:
        return text.strip()
    except (ValueError, RecursionError):  # no value; the next line says why in one sentence
        pass
    read = parse_toml(f"v = {text}", f"--set ...={text[:40]}", "Correct the value.")
    return read["v"] if len(read) == 1 else text.strip()  # a line break in the text could smuggle in another key


ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE.toml",
        callback=_load,
        is_eager=True,
        help="TOML file with a table named like the command; options given here win.",
        show_default=False,
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything random.")]
RunSeed = Annotated[int | None, typer.Option(min=0, help="Seed of everything random (default: the run's).")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads (default: torch's choice).")]
NewRun = Annotated[Path, typer.Option("--out", metavar="RUN", help="Folder of the new run.")]
RunDataset = Annotated[
    Path | None, typer.Option(metavar="DATASET", help="The dataset, if it is no longer where the run met it.")
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        callback=_after_recipe,
        help="Any further setting, e.g. ranker.dropout=0.4. Repeatable.",
    ),
]
TableFormat = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="{table,markdown,latex,csv}",
        help="Form of the table that is printed; --out has latex and csv as a file too.",
    ),
]
LatexCaption = Annotated[
    str | None,
    typer.Option("--caption", metavar="TEXT", help="Of --format latex: in place of what was measured; plain text."),
]
LatexLabel = Annotated[
    str | None,
    typer.Option(
        "--label", metavar="tab:NAME", help="Of --format latex: what \\ref names (default: tab:DATASET-SPLIT)."
    ),
]
PublishTo = Annotated[
    Path | None,
    typer.Option(
        "--publish",
        metavar="FILE.json",
        help="Also write the figures as a small JSON file for a page, in place of an earlier one.",
    ),
]
JsonOutput = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def set_threads(threads: int | None) -> None:
    """Limit torch to a number of CPU threads, if one is given."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def split_ids(text: str) -> list[str]:
    """Item ids of a comma-separated list; an id with a comma is put in double quotes.

    >>> split_ids('12, "a,b",7')
    ['12', 'a,b', '7']
    """
    try:
        rows = list(csv.reader([text], skipinitialspace=True))
    except csv.Error as error:
        raise PalateError(f"{text[:40]!r} is not a valid list of item ids ({error})", "Write ITEM,ITEM,...") from None
    return [item.strip() for item in rows[0] if item.strip()] if rows else []


def split_fields(text: str | None) -> tuple[str, ...] | None:
    """Names in a comma-separated list; None for no list.

    >>> split_fields("genres, director")
    ('genres', 'director')
    """
    return None if text is None else tuple(field_names(text, "--fields"))


def parse_mapping(text: str, option: str) -> dict[str, str]:
    """``"user=uid,item=sku"`` as a dict; a name may be empty, and in double quotes hold anything.

    >>> parse_mapping('user="Customer, ID", item=sku, weight=', "--columns")
    {'user': 'Customer, ID', 'item': 'sku', 'weight': ''}
    """
    mapping: dict[str, str] = {}
    for pair in split_names(text, option):
        ours, equals, theirs = (unquoted_name(word.strip()) for word in pair.partition("="))
        if not equals or not ours:
            raise PalateError(f"{option} {text}: '{pair}' is not of the form OUR=THEIRS", "For example user=uid.")
        if ours in mapping:
            raise PalateError(f"{option} {text}: '{ours}' is given twice", "Name one column for it.")
        mapping[ours] = theirs
    return mapping
