"""A recipe's table of options becomes the words of a command line: ``epochs = 3`` is ``--epochs 3``.

Every option is checked as its command would check it, so that a comparison is refused before its first run.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from palate.cli.deciding_options import DECIDING
from palate.cli.shared.options import read_table
from palate.errors import PalateError, suggest
from palate.experiments.plan import CheckedOptions

if TYPE_CHECKING:
    from palate.data.dataset import Dataset

# What `palate compare` gives to every command itself, and for runs also these options of `palate evaluate`.
_OWN = {"dataset", "run", "runs", "out", "seed", "resume", "refit", "config", "json", "quiet"}
_OWN_OF_EVALUATE = _OWN | {"base", "split", "format", "caption", "label", "publish"}
# An arm reads what the recipe says, whatever happens to be encoded.
_DEFAULTS = {"train": {"modalities": "id", "neighbours": "none"}}


class RecipeWords:
    """Reads tables of options for the commands of a comparison (an :class:`palate.experiments.plan.OptionsReader`).

    Args:
        folder: the dataset's folder.
        threads: given to every command that takes it, whatever the recipe says.
    """

    def __init__(self, folder: Path, dataset: Dataset, threads: int | None = None) -> None:
        self.folder, self.dataset, self.threads = folder, dataset, threads
        # Options that were found good and take a while to check: runs of an arm share them.
        self.checked: set[str] = set()

    def __call__(self, command: str, table: dict[str, Any], where: str) -> CheckedOptions:
        """Words and what decides the result; everything is checked that can be without the run it starts from."""
        values, assignments = self.read(command, table, where)
        values = {**_DEFAULTS.get(command, {}), **values}
        parameters = context_of(command).command.params
        if self.threads is not None and any(one.name == "threads" for one in parameters):
            values["threads"] = self.threads
        try:
            decides = DECIDING[command](context_of(command), typed(command, values), assignments, self)
        except PalateError as error:
            raise PalateError(f"{where}: {error.message}", error.remedy) from None
        return CheckedOptions([*words(command, values), *(w for one in assignments for w in ("--set", one))], decides)

    def read(self, command: str, table: dict[str, Any], where: str) -> tuple[dict[str, Any], list[str]]:
        """Values by parameter name and assignments for ``--set``, each option checked by its own type."""
        for key in table:
            if key in (_OWN_OF_EVALUATE if command == "evaluate" else _OWN):
                raise PalateError(f"{where}: '{key}' is given by `palate compare` itself", "Leave it out.")
        return read_table(context_of(command), table, where)

    def defaults(self, command: str, table: dict[str, Any], where: str) -> dict[str, Any]:
        """A command's values with its defaults for what the table leaves out."""
        values, _ = self.read(command, table, where)
        context = context_of(command)
        unset = {str(one.name): one.get_default(context, call=True) for one in context.command.params}
        return {**unset, **typed(command, values)}


@cache
def context_of(command: str) -> Any:
    """A context of a command, for its parameters to read values in."""
    from palate.cli.commands import build

    found: Any = typer.main.get_command(build())
    for word in command.split():
        known = vars(found)["commands"]
        if word not in known:
            raise PalateError(f"this Palate has no command '{command}'", suggest(word, known))
        found = known[word]
    return found.context_class(found, info_name=command)


def typed(command: str, values: dict[str, Any]) -> dict[str, Any]:
    """Values as the command's function is given them."""
    context = context_of(command)
    return {
        str(one.name): one.process_value(context, values[one.name])
        for one in context.command.params
        if one.name in values
    }


def words(command: str, values: dict[str, Any]) -> list[str]:
    """Values by parameter name as words of the command line."""
    found: list[str] = []
    for parameter in context_of(command).command.params:
        if parameter.name not in values:
            continue
        value = values[parameter.name]
        name = next(one for one in parameter.opts if one.startswith("--"))
        if getattr(parameter, "is_flag", False):
            found += [name] if value else list(parameter.secondary_opts)[:1]
        elif parameter.multiple:
            found += [word for one in value for word in (name, str(one))]
        else:
            found += [name, ",".join(map(str, value)) if isinstance(value, list) else str(value)]
    return found
