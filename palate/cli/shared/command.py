"""A command of Palate: its options are made when they are first needed, and its paths may be URLs but not empty.

``--out "$OUT"`` with an unset variable would otherwise mean the working folder.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import typer
from typer.core import TyperCommand

from palate.cli.shared.completion import completing, completion_parameters
from palate.cli.shared.places import and_send, let_take_urls
from palate.console import be_quiet
from palate.errors import PalateError


def deferred(function: Callable[..., Any]) -> Callable[[], None]:
    """What is registered in place of a command's function, for a :class:`PalateCommand` to replace.

    Options that come from a Config import its module, and with it perhaps torch: ``palate --help`` needs none of it.
    """

    def command() -> None:
        """Replaced before it is called."""

    command.__name__, command.__doc__ = function.__name__, function.__doc__
    command.function = function  # type: ignore[attr-defined]
    return command


# The commands that train.
_TRACKED = ("train", "attach", "align", "blend", "tune", "compare", "sft", "demo")


class PalateCommand(TyperCommand):
    """A command whose parameters are those of a :func:`deferred` function."""

    _params: list[Any] | None = None

    @property
    def params(self) -> list[Any]:
        if self._params is None:
            function, name = self.callback.function, str(self.name)  # type: ignore[union-attr]
            if completing():
                self._params = completion_parameters(function, lambda: _made(function, name)[0])
            else:
                self._params, self.callback = _made(function, name)
        return self._params

    @params.setter
    def params(self, value: list[Any]) -> None:
        """Ignores what typer makes of the deferred function: it has no parameters."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if ctx.resilient_parsing:  # a shell asks what could come next
            return super().parse_args(ctx, args)
        params, names = self.params, path_names(self)
        paths = {option for parameter in params if parameter.name in names for option in parameter.opts}
        for before, word in zip(["", *args], args, strict=False):
            option = word[:-1] if word[:2] == "--" and word[-1:] == "=" else before if word == "" else None
            if option in paths:
                raise empty_path(str(option))
            if option is not None and option[:1] != "-":
                raise empty_path("an argument")
        _, _, given = self.make_parser(ctx).parse_args(list(args))
        refuse_repeated(given)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        return and_send(ctx, lambda: super(PalateCommand, self).invoke(ctx))


def _made(function: Callable[..., Any], name: str) -> tuple[list[Any], Callable[..., Any] | None]:
    """The parameters of a command's function, and what is called with their values."""
    app = typer.Typer(add_completion=False)
    app.command()(function)
    made = typer.main.get_command(app)
    paths = path_names(made)
    for parameter in made.params:
        let_take_urls(parameter, name, parameter.name in paths)
    shared = [track_option(), quiet_option()] if name in _TRACKED else [quiet_option()]
    return [*made.params, *shared], made.callback


def quiet_option() -> Any:
    """``--quiet``, which every command has."""

    def hush(value: bool) -> None:
        if value:
            be_quiet()

    def holder(
        quiet: bool = typer.Option(
            False,
            "--quiet",
            "-q",
            expose_value=False,
            callback=hush,
            help="Print results, warnings and errors only: no progress, no notes.",
        ),
    ) -> None: ...

    app = typer.Typer(add_completion=False)
    app.command()(holder)
    return typer.main.get_command(app).params[0]


def track_option() -> Any:
    """``--track``, which every command that trains has: for it, and for the processes that it starts."""

    def follow(value: str | None) -> None:
        if value is not None:
            from palate.runs.trackers import VARIABLE, tracker_names

            tracker_names(value)
            os.environ[VARIABLE] = value

    def holder(
        track: str | None = typer.Option(
            None,
            metavar="mlflow,wandb",
            expose_value=False,
            callback=follow,
            help="Trackers that get the rows of metrics.jsonl and the pictures (PALATE_TRACK does the same).",
        ),
    ) -> None: ...

    app = typer.Typer(add_completion=False)
    app.command()(holder)
    return typer.main.get_command(app).params[0]


def path_names(command: Any) -> set[str]:
    """Names of a command's parameters that are paths, or lists of them."""
    parameters = inspect.signature(inspect.unwrap(command.callback), eval_str=True).parameters.values()
    return {parameter.name for parameter in parameters if _holds_path(parameter.annotation)}


def _holds_path(annotation: Any) -> bool:
    return annotation is Path or any(_holds_path(one) for one in get_args(annotation))


def refuse_repeated(given: list[Any]) -> None:
    """Refuse an option that is given twice and takes one value: all but the last would go unheard.

    Args:
        given: the parameters of a command line, in its order.
    """
    seen = set()
    for parameter in given:
        switch = getattr(parameter, "is_flag", False) and not parameter.secondary_opts
        if parameter.param_type_name != "option" or parameter.multiple or switch:
            continue
        if parameter.name in seen:
            names = " or ".join([*parameter.opts, *parameter.secondary_opts])
            raise PalateError(f"{names} is given twice, and only one can count", "Give it once.")
        seen.add(parameter.name)


def empty_path(where: str) -> PalateError:
    """The error of a path without a letter."""
    return PalateError(f"{where} is empty, where a path belongs", "Name a file or folder; '.' is the one you are in.")
