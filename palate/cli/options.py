"""Options that many commands share: the TOML file, the seed, and how they reach the parameters."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from palate.errors import PalateError, suggest


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; a missing or broken one is a clear error."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PalateError(f"{path} does not exist", "Check --config.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PalateError(f"{path} is not valid TOML ({error})", "Correct the file.") from None


def _load(context: typer.Context, path: Path | None) -> Path | None:
    """Put the file's table for this command behind the options given on the command line."""
    if path is None:
        return None
    command = context.info_name or ""
    recipe = read_toml(path)
    table = recipe.get(command)
    if not isinstance(table, dict):
        raise PalateError(
            f"{path} has no table [{command}]", suggest(command, recipe) if recipe else "The file is empty."
        )
    parameters = {p.name: p for p in context.command.params if p.name and p.name not in ("config", "help")}
    values: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if isinstance(value, dict) and "set_" in parameters and name not in parameters:
            # A sub-table such as [train.ranker] stands for --set ranker.KEY=VALUE.
            values.setdefault("set_", []).extend(_assignments(key, value))
        elif name not in parameters:
            raise PalateError(
                f"{path} [{command}]: unknown option '{key}'", suggest(key, [p.replace("_", "-") for p in parameters])
            )
        else:
            values[name] = _as_given(parameters[name], value)
    context.default_map = {**(context.default_map or {}), **values}
    return path


def _assignments(prefix: str, table: dict[str, Any]) -> list[str]:
    rows: list[str] = []
    for key, value in table.items():
        name = f"{prefix}.{key}"
        rows += _assignments(name, value) if isinstance(value, dict) else [f"{name}={to_toml(value)}"]
    return rows


def to_toml(value: Any) -> str:
    """A TOML literal for a value that was read from TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(to_toml(item) for item in value) + "]"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value)


def _as_given(parameter: Any, value: Any) -> Any:
    """A TOML list or table for an option that takes one comma-separated word becomes that word."""
    if isinstance(value, list) and not parameter.multiple and parameter.nargs == 1:
        return ",".join(str(item) for item in value)
    if isinstance(value, dict) and not parameter.multiple and parameter.nargs == 1:
        return ",".join(f"{key}={item}" for key, item in value.items())
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
        if not equals or not all(parts):
            raise PalateError(
                f"--set {assignment}: not of the form SECTION.KEY=VALUE", "For example --set ranker.dim=128."
            )
        try:
            value = tomllib.loads(f"v = {text}")["v"]
        except tomllib.TOMLDecodeError:
            value = text.strip()
        here = nested
        for part in parts[:-1]:
            here = here.setdefault(part, {})
            if not isinstance(here, dict):
                raise PalateError(f"--set {assignment}: '{part}' is given a value as well", "Give one or the other.")
        here[parts[-1]] = value
    return nested


ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        callback=_load,
        is_eager=True,
        help="TOML file with a table named like the command; options given here win.",
        show_default=False,
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything random.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="SECTION.KEY=VALUE", help="Any further setting, e.g. ranker.dropout=0.4. Repeatable."
    ),
]
JsonOutput = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
