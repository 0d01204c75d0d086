"""The console that every command prints with: names that users chose appear letter by letter."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text


def open_console(**options: Any) -> Console:
    """A console that takes ``[...]`` and ``:word:`` as they stand, in lines, tables and titles alike.

    Paths, runs and titles such as ``knn[lr=0.1]`` or ``x[/b]`` are no markup. What is to be coloured has a ``style``
    or is a ``rich.text.Text``.

    Args:
        options: of ``rich.console.Console``.

    >>> open_console(width=40).print("Run: runs/knn[lr=0.1]/x[/b]:cat:")
    Run: runs/knn[lr=0.1]/x[/b]:cat:
    """
    return Console(markup=False, emoji=False, **options)


def print_warning(console: Console, text: str) -> None:
    """One warning, on one line however narrow the terminal is."""
    console.print(Text.assemble(("Warning:", "yellow"), f" {text}"), soft_wrap=True)
