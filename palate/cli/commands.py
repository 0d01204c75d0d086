"""Options of other commands as a recipe has them: checked by the commands themselves, and turned into words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from palate.cli.options import parse_assignments, read_table
from palate.errors import PalateError, suggest
from palate.training.arms import Given

if TYPE_CHECKING:
    from palate.data.dataset import Dataset

# What `palate compare` gives to every command itself.
_OURS = {"dataset", "run", "runs", "out", "seed", "resume", "config", "base", "split", "json"}
# Where and how fast, but not what.
_MANNER = {"threads", "device"}


class Commands:
    """Reads tables of options for the commands of a comparison.

    Args:
        folder: the dataset's folder.
        threads: given to every command that takes it, whatever the recipe says.
    """

    def __init__(self, folder: Path, dataset: Dataset, threads: int | None = None) -> None:
        self.folder, self.dataset, self.threads = folder, dataset, threads

    def __call__(self, command: str, table: dict[str, Any], where: str) -> Given:
        """Words and what decides the result; everything is checked that can be without the run it starts from."""
        values, settings = self.spelling(command, table, where)
        if self.threads is not None and any(one.name == "threads" for one in _context(command).command.params):
            values["threads"] = self.threads
        decides: dict[str, Any] = {
            "values": {name: value for name, value in values.items() if name not in _MANNER},
            "settings": parse_assignments(settings),
        }
        try:
            decides["features"] = self._check(command, values, parse_assignments(settings))
        except PalateError as error:
            raise PalateError(f"{where}: {error.message}", error.remedy) from None
        return Given([*_words(command, values), *(word for one in settings for word in ("--set", one))], decides)

    def spelling(self, command: str, table: dict[str, Any], where: str) -> tuple[dict[str, Any], list[str]]:
        """Values by parameter name and words for ``--set``, each option checked by its own type."""
        for key in table:
            # A train table may say `split = ...` or the like as an option one day; what is ours is named plainly.
            if key in (_OURS if command == "evaluate" else _OURS - {"base", "split"}):
                raise PalateError(f"{where}: '{key}' is given by `palate compare` itself", "Leave it out.")
        return read_table(_context(command), table, where)

    def defaults(self, command: str, table: dict[str, Any], where: str) -> dict[str, Any]:
        """A command's values with its defaults for what the table leaves out."""
        values, _ = self.spelling(command, table, where)
        context = _context(command)
        return {
            str(one.name): one.process_value(context, values[one.name])
            if one.name in values
            else one.get_default(context, call=True)
            for one in context.command.params
        }

    def _check(self, command: str, values: dict[str, Any], settings: dict[str, dict[str, Any]]) -> dict[str, str]:
        """Refuse what the command would refuse; fingerprints of the features it reads."""
        if command != "train":
            return {}
        from palate.cli.train import open_features
        from palate.training.plan import make_plan

        if "model" not in values:
            raise PalateError("'model' is missing", "Name the model.")
        if "epochs" in values:
            settings.setdefault("trainer", {})["epochs"] = int(values["epochs"])
        names = tuple(name.strip() for name in str(values.get("modalities", "id")).split(",") if name.strip())
        make_plan(
            values["model"],
            names,
            values.get("missing", "learned"),
            values.get("objective", "cross-entropy"),
            settings,
        )
        stores = open_features(self.folder, self.dataset.catalogue, names, list(values.get("store") or []))
        return {name: store.fingerprint for name, store in stores.items()}


def _context(command: str) -> Any:
    from palate.cli.app import build

    known = vars(typer.main.get_command(build()))["commands"]
    if command not in known:
        raise PalateError(f"this Palate has no command '{command}'", suggest(command, known))
    return known[command].context_class(known[command], info_name=command)


def _words(command: str, values: dict[str, Any]) -> list[str]:
    """The command-line words of values by parameter name."""
    words: list[str] = []
    for parameter in _context(command).command.params:
        if parameter.name not in values:
            continue
        value = values[parameter.name]
        name = next(one for one in parameter.opts if one.startswith("--"))
        if getattr(parameter, "is_flag", False):
            words += [name] if value else list(parameter.secondary_opts)[:1]
        elif parameter.multiple:
            words += [word for one in value for word in (name, str(one))]
        else:
            words += [name, ",".join(map(str, value)) if isinstance(value, list) else str(value)]
    return words
