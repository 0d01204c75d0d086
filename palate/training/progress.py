"""Live progress of training: throughput, loss, metric and time left; one line an epoch in a log."""

from __future__ import annotations

import sys
import time

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from palate.console import open_console
from palate.runs.log import Row


class EpochProgress:
    """Reports on standard error: a bar on a terminal, lines otherwise.

    Args:
        main: whether this is the worker that reports; the others say nothing.
    """

    def __init__(self, epochs: float, targets: int, metric: str, main: bool = True) -> None:
        self.epochs, self.targets, self.metric, self.main = epochs, targets, metric, main
        self.epoch = 0
        self.done = 0
        self.began = time.monotonic()
        self.first = 0
        self.seconds = 0.0
        self.bar: Progress | None = None
        if main and sys.stderr.isatty():
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[news]}", markup=False),
            )
            self.bar = Progress(*columns, console=open_console(stderr=True), transient=True)
            self.bar.start()
            self.task = self.bar.add_task("training", total=targets, news="")

    def start(self, epoch: int) -> None:
        self.epoch, self.done, self.began = epoch, 0, time.monotonic()
        self.first = self.first or epoch
        if self.bar:
            self.bar.reset(self.task, total=self.targets, description=f"epoch {epoch}/{self.epochs}", news="")

    def advance(self, targets: int, loss: float) -> None:
        self.done += targets
        if self.bar:
            speed = self.done / max(time.monotonic() - self.began, 1e-9)
            left = (self.targets * (self.epochs - self.epoch + 1) - self.done) / speed
            news = f"loss {loss:.4f}  {speed:,.0f} targets/s  {_clock(left)} left at most"
            self.bar.update(self.task, completed=self.done, news=news)

    def report(self, row: Row, best: float, stale: int) -> None:
        self.seconds += row["train_seconds"] + row["eval_seconds"]
        mean = self.seconds / max(1, row["epoch"] - self.first + 1)
        left = mean * (self.epochs - row["epoch"])
        words = [
            f"epoch {row['epoch']}/{self.epochs}",
            f"loss {row['loss']:.4f}",
            *([f"{self.metric} {row[self.metric]:.4f} (best {best:.4f})"] if self.metric in row else []),
            f"{row['train_seconds']:.1f} s + {row['eval_seconds']:.1f} s",
            f"{row['targets_per_second']:,.0f} targets/s",
            *([f"{stale} without gain"] if stale else []),
            f"at most {_clock(left)} left",
        ]
        self.say("  ".join(words))

    def say(self, line: str) -> None:
        """Print a line, above the bar where there is one."""
        if self.bar:
            self.bar.console.print(line, highlight=False)
        elif self.main:
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.bar:
            self.bar.stop()


def _clock(seconds: float) -> str:
    """
    >>> _clock(75), _clock(4000)
    ('1:15', '1:06:40')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
