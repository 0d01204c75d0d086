"""The command line: collects the commands, and turns a user's mistakes into one clear line."""

from __future__ import annotations

import os
import sys
from importlib import import_module

import typer

from palate import __version__
from palate.console import open_console
from palate.errors import PalateError

# One small file a command: palate/cli/NAME.py with a function of the same name, or an application of commands. A dash
# in the name is an underscore there.
COMMANDS = (
    "demo",
    "prepare",
    "doctor",
    "encode",
    "neighbours",
    "train",
    "attach",
    "align",
    "blend",
    "summarise",
    "mllm",
    "tune",
    "evaluate",
    "compare",
    "report",
    "recommend",
    "bundle",
    "add-items",
    "serve",
    "models",
    "info",
)

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
        for name in COMMANDS:
            spelt = name.replace("-", "_")
            command = getattr(import_module(f"palate.cli.{spelt}"), spelt)
            if isinstance(command, typer.Typer):
                app.add_typer(command, name=name)
            else:
                app.command(name)(command)
    return app


def main() -> None:
    """Entry point of the ``palate`` command. ``PALATE_TRACEBACK=1`` shows tracebacks for debugging."""
    try:
        build()()
    except SystemExit as end:
        if end.code == 130:  # Ctrl-C
            print("Interrupted. What was complete is kept; training continues with --resume.", file=sys.stderr)
        raise
    except (PalateError, OSError) as error:
        if os.environ.get("PALATE_TRACEBACK"):
            raise
        console = open_console(stderr=True, soft_wrap=True, highlight=False)
        console.print("Error: ", style="bold red", end="")
        console.print(_told(error))
        sys.exit(2)


def _told(error: PalateError | OSError) -> str:
    if isinstance(error, PalateError):
        return str(error)
    what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return f"{what}. (PALATE_TRACEBACK=1 shows where.)"
