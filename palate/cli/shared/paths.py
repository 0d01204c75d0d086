"""An empty path is refused: ``--out "$OUT"`` with an unset variable would otherwise mean the working folder."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, get_args, get_type_hints

from typer.core import TyperCommand

from palate.errors import PalateError


class Command(TyperCommand):
    """A command whose paths are not empty."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        paths = {option for name in path_names(self) for option in _options(self, name)}
        for before, word in zip(["", *args], args, strict=False):
            option = word[:-1] if word[:2] == "--" and word[-1:] == "=" else before if word == "" else None
            if option in paths:
                raise empty_path(str(option))
            if option is not None and option[:1] != "-":
                raise empty_path("an argument")
        return super().parse_args(ctx, args)


def path_names(command: Any) -> set[str]:
    """Names of the parameters of a command that are paths, or lists of them."""
    hints = get_type_hints(inspect.unwrap(command.callback))
    return {name for name, hint in hints.items() if name != "return" and _holds_path(hint)}


def _holds_path(hint: Any) -> bool:
    return hint is Path or any(_holds_path(one) for one in get_args(hint))


def _options(command: Any, name: str) -> list[str]:
    return [option for parameter in command.params if parameter.name == name for option in parameter.opts]


def empty_path(where: str) -> PalateError:
    """The error of a path without a letter."""
    return PalateError(f"{where} is empty, where a path belongs", "Name a file or folder; '.' is the one you are in.")
