"""The command line: collects the commands, and turns a user's mistakes into one clear line."""

from __future__ import annotations

import os
import sys
from importlib import import_module

import typer

from palate import __version__
from palate.cli.ending import command_of, end_like_ctrl_c, exit_code_of, last_words
from palate.cli.paths import Command
from palate.console import open_console
from palate.errors import PalateError
from palate.exhausted import disk_full, full, out_of_memory

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
                for one in command.registered_commands:
                    one.cls = Command
                app.add_typer(command, name=name)
            else:
                app.command(name, cls=Command)(command)
    return app


def main() -> None:
    """Entry point of the ``palate`` command. ``PALATE_TRACEBACK=1`` shows tracebacks for debugging."""
    command = command_of(sys.argv[1:])
    end_like_ctrl_c(command)
    try:
        build()()
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        last = last_words(exit_code_of(error), command)
        if last is not None:
            code, sentence = last
            print(sentence, file=sys.stderr)
            sys.exit(code)
        line = message_of(error) if isinstance(error, Exception) else None
        if line is None or os.environ.get("PALATE_TRACEBACK"):
            raise
        console = open_console(stderr=True, soft_wrap=True, highlight=False)
        console.print("Error: ", style="bold red", end="")
        console.print(line)
        sys.exit(2)


def message_of(error: Exception) -> str | None:
    """The line that an error is reported in; None for one that only a traceback explains."""
    if isinstance(error, PalateError):
        return str(error)
    where = "(PALATE_TRACEBACK=1 shows where.)"
    problem = disk_full(error)
    if problem is not None:
        return f"{full(problem, getattr(error, 'filename', None))} {where}"
    problem = out_of_memory(error)
    if problem is not None:
        return f"{problem}. Choose smaller sizes or batches, or a machine with more memory. {where}"
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}. {where}" if error.filename else f"{error}. {where}"
    return None
