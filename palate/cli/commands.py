"""The commands: their names, and the application that has all of them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer

from palate import __version__
from palate.cli.shared.command import PalateCommand, deferred
from palate.cli.shared.completion import shell_completion

# By task, as `palate --help` shows them. One small file for each command: palate/cli/NAME.py with a function of that
# name, or an application of commands, unless a module is named here. A dash in the name is an underscore there.
PANELS = {
    "Data": {"prepare": "", "doctor": "", "encode": "", "neighbours": ""},
    "Train": {"train": "", "attach": "", "align": "", "blend": "", "tune": ""},
    "Measure": {"evaluate": "", "gate": "", "compare": "", "report": "", "track": ""},
    "Recommend and serve": {"recommend": "", "bundle": "", "add-items": "", "serve": ""},
    "Language models": {"summarise": "llm.summarise", "mllm": "llm.group"},
    "More": {"demo": "", "models": "", "info": ""},
}
COMMANDS = {name: module for panel in PANELS.values() for name, module in panel.items()}

app = typer.Typer(
    name="palate",
    help="Recommenders that understand pictures and text and are aligned on preferences.",
    no_args_is_help=True,
    epilog="Your shell completes commands, options and names: palate --install-completion",
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback(invoke_without_command=True)
def palate(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        print(f"palate {__version__}")
        raise typer.Exit


def build() -> typer.Typer:
    """The application with every command registered."""
    if not app.registered_commands:
        for panel, commands in PANELS.items():
            for name, module in commands.items():
                spelt = name.replace("-", "_")
                command = getattr(import_module(f"palate.cli.{module or spelt}"), spelt)
                if isinstance(command, typer.Typer):
                    for one in command.registered_commands:
                        assert one.callback is not None
                        one.cls, one.callback = PalateCommand, deferred(one.callback)
                    app.add_typer(command, name=name, rich_help_panel=panel)
                else:
                    app.command(name, cls=PalateCommand, rich_help_panel=panel)(deferred(command))
    return app


def root() -> Any:
    """The command ``palate``, whose help is not crowded by the options for shells."""
    command: Any = typer.main.get_command(build())
    command.commands = {name: command.commands[name] for name in COMMANDS}  # typer puts groups last
    for parameter in command.params:
        if parameter.name in ("install_completion", "show_completion"):
            parameter.hidden = True
    return command


def learn_completion() -> None:
    """Find every command's options now, so that the first TAB of a shell need not wait for it."""
    groups = [root()]
    with shell_completion():
        for group in groups:
            for command in group.commands.values():
                if hasattr(command, "commands"):
                    groups.append(command)
                else:
                    command.params  # noqa: B018 - they are kept where they are found
