"""Which options of a command were written on the command line, whatever their values are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from palate.errors import PalateError

if TYPE_CHECKING:
    import typer


def refuse_options(context: typer.Context, names: Iterable[str], reason: str) -> None:
    """Raises an error about the first of these parameters that was given: ``--depth`` and the reason.

    A recipe may hold them: its values are often for other calls of the command as well.
    """
    spelled = {parameter.name: parameter.opts[-1] for parameter in context.command.params}
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise PalateError(f"{spelled[name]} {reason}", "Leave it out.")
