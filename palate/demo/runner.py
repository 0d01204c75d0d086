"""How a stage of the demo runs: command lines, printed before they run, and functions for what no command does."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from palate.data.dataset import Dataset
from palate.storage.files import read_json, write_json, write_text

COMMANDS, FACTS = "commands.sh", "demo.json"


@dataclass(frozen=True)
class DemoCommand:
    """A command line, with ``$DEMO`` for the demo's folder.

    Attributes:
        makes: a folder in ``$DEMO`` that the command makes and refuses to replace: where this very line made it, it is
            left as it is; what another line made is removed. Commands without it go on by themselves with what they
            find.
        goes_on: the command itself goes on with what this very line has begun to make.
        after: commands whose folders this one reads: where they are made anew, so is its own.
    """

    line: str
    makes: str | None = None
    goes_on: bool = False
    after: tuple[DemoCommand, ...] = ()

    @property
    def recipe(self) -> str:
        """The line, and those that it builds on, each once."""
        lines = [self.line, *(line for one in self.after for line in one.recipe.splitlines())]
        return "\n".join(dict.fromkeys(lines))


@dataclass(frozen=True)
class Function:
    """What no command does; ``text`` is its line in :data:`COMMANDS`."""

    text: str
    call: Callable[[Demo], None]


@dataclass(frozen=True)
class Note:
    """A sentence in place of what is left out."""

    text: str


@dataclass(frozen=True)
class Stage:
    """A title and its steps, in order."""

    title: str
    steps: Sequence[DemoCommand | Function | Note]


def row_of(label: str, folder: str) -> str:
    """A run of the demo as a row of ``palate evaluate``, under a label."""
    return f"{shlex.quote(label)}=$DEMO/{folder}"


@dataclass
class Demo:
    """The demo at work in a folder.

    Attributes:
        run_command: runs the words of a command line after ``palate`` in this process.
        facts: what ``demo.json`` holds in the end.
        made: which lines made a folder, of this call and of earlier ones.
    """

    out: Path
    seed: int
    console: Console
    run_command: Callable[[Sequence[str]], None]
    facts: dict[str, Any] = field(default_factory=dict)
    made: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        file = self.out / FACTS
        self.made = read_json(file).get("made", {}) if file.is_file() else {}

    @property
    def dataset(self) -> Path:
        return self.out / "dataset"

    def data(self) -> Dataset:
        """The dataset, once the first stage has made it."""
        return Dataset.load(self.dataset)

    def typed(self, line: str) -> str:
        """The command line as a reader would type it."""
        return line.replace("$DEMO", shlex.quote(str(self.out)))

    def run(self, step: DemoCommand | Function | Note) -> None:
        """Run one step, unless it was finished before."""
        if isinstance(step, Note):
            self.console.print(step.text, style="yellow")
        elif isinstance(step, Function):
            step.call(self)
        elif step.makes is not None and self._is_made(step, self.out / step.makes):
            self._print(step, "  # done before")
            table = self.out / step.makes / "table.md"
            if table.is_file():
                self.console.print(table.read_text("utf-8"), soft_wrap=True)
        else:
            if step.makes is not None and self.made.get(step.makes) != step.recipe:
                shutil.rmtree(self.out / step.makes, ignore_errors=True)
                self.made[step.makes] = step.recipe
                self.save()
            self._print(step)
            self.run_command(shlex.split(self.typed(step.line))[1:])

    def _is_made(self, step: DemoCommand, folder: Path) -> bool:
        return not step.goes_on and folder.is_dir() and self.made.get(str(step.makes)) == step.recipe

    def _print(self, step: DemoCommand, remark: str = "") -> None:
        self.console.print(f"\n$ {self.typed(step.line)}{remark}", style="bold cyan", soft_wrap=True)

    def save(self) -> None:
        """Write ``demo.json``."""
        write_json(self.out / FACTS, {**self.facts, "made": self.made})

    def write_commands(self, stages: Sequence[Stage]) -> None:
        """Write all command lines into a file, so that any of them can be repeated."""
        lines = [
            "# The command lines of `palate demo`, in order; paths are seen from the folder in which it was called.",
            "# To repeat one that makes a new folder, give it another --out.",
        ]
        for number, stage in enumerate(stages, 1):
            lines += ["", f"# {number}. {stage.title}"]
            for step in stage.steps:
                lines.append(self.typed(step.line) if isinstance(step, DemoCommand) else f"# {step.text}")
        write_text(self.out / COMMANDS, "\n".join([*lines, ""]))
