"""Progress of long work on standard error: a live bar on a terminal, a line every few seconds in a log or a pipe.

``--quiet`` and the variable ``PALATE_QUIET`` switch it off; of several workers only the first one shows it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from palate.console import is_quiet, open_console
from palate.progress.lines import LINES
from palate.progress.pace import Pace, seconds_text

__all__ = ["Pace", "counter", "lines_of", "on_screen", "say", "seconds_text", "shown", "track", "working"]

T = TypeVar("T")
_on_screen = False


def track(
    steps: Iterable[T], description: str, total: int | None = None, weight: int = 1, done: int = 0
) -> Generator[T, None, None]:
    """Yield the steps and report on standard error how far they are.

    Args:
        total: Number of things to do; by default the length of ``steps``.
        weight: Things done in one step (a batch size).
        done: Things that an interrupted call did before; they are part of ``total``, not of the speed.
    """
    if total is None and isinstance(steps, Sized):
        total = len(steps) * weight + done
    with counter(description, total, done) as advance:
        for step in steps:
            yield step
            advance(weight)


@contextmanager
def counter(description: str, total: int | None, done: int = 0) -> Iterator[Callable[[int], None]]:
    """:func:`track` for work that says itself how many things it has done: yields a function of their number."""
    if not shown():
        yield lambda things: None
    elif sys.stderr.isatty():
        with on_screen(_bar()) as bar:
            task = None if bar is None else bar.add_task(description, total=total, completed=done)
            yield lambda things: None if bar is None or task is None else bar.advance(task, things)
    else:
        pace = Pace(description, total, done)
        with lines_of(pace):
            yield _bounded(pace)


@contextmanager
def working(description: str) -> Iterator[None]:
    """Work that cannot say how far it is: shows that it goes on, and for how long it has.

    Args:
        description: such as ``Reading the log``.
    """
    if not shown():
        yield
    elif sys.stderr.isatty():
        columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
        with on_screen(Progress(*columns, console=open_console(stderr=True), transient=True)) as bar:
            if bar is not None:
                bar.add_task(description, total=None)
            yield
    else:
        with lines_of(Pace(description)):
            yield


@contextmanager
def on_screen(bar: Progress) -> Iterator[Progress | None]:
    """The bar at work; None while another one is, of work that this is part of: they would write over each other."""
    global _on_screen
    if _on_screen:
        yield None
        return
    _on_screen = True
    try:
        with bar:
            yield bar
    finally:
        _on_screen = False


@contextmanager
def lines_of(pace: Pace, closing: bool = True) -> Iterator[None]:
    """Lines about a piece of work while it lasts; ``closing``: and one when it ends."""
    LINES.begin(pace)
    try:
        yield
    finally:
        LINES.end(pace, closing)


def say(line: str) -> None:
    """A line about how far work is, on standard error: of an epoch, of a trial."""
    if shown():
        LINES.say(line)


def shown() -> bool:
    """Whether this process shows progress: of several workers only the first does."""
    return not is_quiet() and os.environ.get("RANK", "0") == "0"


def _bounded(pace: Pace) -> Callable[[int], None]:
    """Count, and never beyond the total: a last batch may be smaller than its weight says."""

    def advance(things: int) -> None:
        room = things if pace.total is None else max(0, pace.total - pace.done)
        pace.advance(min(things, room))

    return advance


def _bar() -> Progress:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=open_console(stderr=True), transient=True)
