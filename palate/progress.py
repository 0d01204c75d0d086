"""Progress of long work: a live bar with an estimate on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sized
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from palate.console import open_console

T = TypeVar("T")
_LOG_EVERY_SECONDS = 20.0


def track(steps: Iterable[T], description: str, total: int | None = None, weight: int = 1) -> Generator[T, None, None]:
    """Yield the steps and report on standard error how far they are.

    Args:
        total: Number of things to do; by default the length of ``steps``.
        weight: Things done in one step (a batch size).
    """
    if total is None and isinstance(steps, Sized):
        total = len(steps) * weight
    if sys.stderr.isatty():
        yield from _bar(steps, description, total, weight)
    else:
        yield from _lines(steps, description, total, weight)


@contextmanager
def counter(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """:func:`track` for work that says itself how many things it has done: yields a function of their number."""
    steps = track(range(total + 1), description, total=total)
    next(steps)
    try:
        yield lambda things: deque(islice(steps, things), maxlen=0).clear()
    finally:
        steps.close()


def _bar(steps: Iterable[T], description: str, total: int | None, weight: int) -> Iterator[T]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=open_console(stderr=True), transient=True) as progress:
        task = progress.add_task(description, total=total)
        for step in steps:
            yield step
            progress.advance(task, weight)


def _lines(steps: Iterable[T], description: str, total: int | None, weight: int) -> Iterator[T]:
    start = printed = time.monotonic()
    done = 0
    for step in steps:
        yield step
        done += weight
        now = time.monotonic()
        if now - printed >= _LOG_EVERY_SECONDS:
            printed = now
            left = f"/{total}, {(total - done) * (now - start) / done:.0f} s left" if total else ""
            print(f"{description}: {done}{left}", file=sys.stderr, flush=True)
