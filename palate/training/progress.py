"""Live progress of training: throughput, loss, metric and time left; a line per epoch in a log, more in long ones."""

from __future__ import annotations

import sys
from collections import deque
from contextlib import ExitStack

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from palate.console import open_console
from palate.progress import Pace, lines_of, on_screen, say, seconds_text, shown
from palate.runs.log import Row

# The first epoch compiles and loads: what is left is estimated from the newest ones.
_EPOCHS = 5


class EpochProgress:
    """Reports on standard error: a bar on a terminal, lines otherwise.

    Args:
        targets: of an epoch; 0: unknown here.
        main: whether this is the worker that reports; the others say nothing.
    """

    def __init__(self, epochs: float, targets: int, metric: str, main: bool = True) -> None:
        self.epochs, self.targets, self.metric = epochs, targets, metric
        self.shown = main and shown()
        self.epoch = 0
        self.pace = Pace("epoch")
        self.spent: deque[tuple[float, float]] = deque(maxlen=_EPOCHS)  # up to which epoch, and its seconds
        self.before = 0.0
        self.lines, self.screen = ExitStack(), ExitStack()
        self.bar: Progress | None = None
        if self.shown and sys.stderr.isatty():
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[news]}", markup=False),
            )
            bar = Progress(*columns, console=open_console(stderr=True), transient=True)
            self.bar = self.screen.enter_context(on_screen(bar))
        if self.bar:
            self.task = self.bar.add_task("training", total=targets or None, news="")

    def start(self, epoch: int) -> None:
        """An epoch begins, or goes on after a validation within it."""
        self.lines.close()
        if epoch != self.epoch:
            self.pace = Pace(f"epoch {epoch}/{self.epochs}", self.targets)
        self.epoch = epoch
        if self.bar:
            self.bar.reset(self.task, total=self.targets, description=self.pace.description, news="")
        elif self.shown:
            self.lines.enter_context(lines_of(self.pace, closing=False))

    def advance(self, targets: int, loss: float) -> None:
        self.pace.advance(targets)
        self.pace.news = f"loss {loss:.4f}"
        speed = self.pace.speed()
        if self.bar:
            rest = self.targets * (self.epochs - self.epoch + 1) - self.pace.done
            left = f"  {speed:,.0f} targets/s  {seconds_text(rest / speed)} left at most" if speed else ""
            self.bar.update(self.task, completed=self.pace.done, news=f"{self.pace.news}{left}")

    def report(self, row: Row, best: float, stale: int) -> None:
        """A validation: after an epoch, or a part of one."""
        self.lines.close()
        part = row["epoch"] - self.before if self.before else row["epoch"] % 1 or 1.0
        self.before = row["epoch"]
        self.spent.append((part, row["train_seconds"] + row["eval_seconds"]))
        newest = list(self.spent)[1:] or self.spent
        each = sum(seconds for _, seconds in newest) / sum(part for part, _ in newest)
        words = [
            f"epoch {row['epoch']}/{self.epochs}",
            f"loss {row['loss']:.4f}",
            *([f"{self.metric} {row[self.metric]:.4f} (best {best:.4f})"] if self.metric in row else []),
            f"{row['train_seconds']:.1f} s + {row['eval_seconds']:.1f} s",
            f"{row['targets_per_second']:,.0f} targets/s",
            *([f"{stale} without gain"] if stale else []),
            f"at most {seconds_text(each * (self.epochs - row['epoch']))} left",
        ]
        line = "  ".join(words)
        if self.bar:
            self.bar.console.print(line, highlight=False)
        elif self.shown:
            say(line)

    def ask(self, line: str) -> None:
        """Print a line to which somebody at the terminal may answer, also where progress is not shown."""
        if self.bar:
            self.bar.console.print(line, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        self.lines.close()
        self.screen.close()
