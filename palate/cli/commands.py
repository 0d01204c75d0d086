"""The commands: their names, and the application that has all of them."""

from __future__ import annotations

from importlib import import_module

import typer

from palate import __version__
from palate.cli.shared.command import PalateCommand, deferred

# One small file for each command: palate/cli/NAME.py with a function of the same name, or an application of commands,
# unless a module is named here. A dash in the name is an underscore there.
COMMANDS = {
    "demo": "",
    "prepare": "",
    "doctor": "",
    "encode": "",
    "neighbours": "",
    "train": "",
    "attach": "",
    "align": "",
    "blend": "",
    "summarise": "llm.summarise",
    "mllm": "llm.group",
    "tune": "",
    "evaluate": "",
    "gate": "",
    "compare": "",
    "report": "",
    "recommend": "",
    "bundle": "",
    "add-items": "",
    "serve": "",
    "models": "",
    "info": "",
    "track": "",
}

app = typer.Typer(
    name="palate",
    help="Recommenders that understand pictures and text and are aligned on preferences.",
    no_args_is_help=True,
    add_completion=False,
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
        for name, module in COMMANDS.items():
            spelt = name.replace("-", "_")
            command = getattr(import_module(f"palate.cli.{module or spelt}"), spelt)
            if isinstance(command, typer.Typer):
                for one in command.registered_commands:
                    assert one.callback is not None
                    one.cls, one.callback = PalateCommand, deferred(one.callback)
                app.add_typer(command, name=name)
            else:
                app.command(name, cls=PalateCommand)(deferred(command))
    return app
