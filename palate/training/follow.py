"""The progress of a training that runs in other processes: what it writes into its run is reported here."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from palate.runs.log import Row
from palate.training.config import TrainerConfig
from palate.training.progress import EpochProgress

_SECONDS = 1.0


@contextmanager
def reported(run: Path, config: TrainerConfig, every: float = _SECONDS) -> Iterator[None]:
    """Report each epoch of a run while the block runs, as :class:`EpochProgress` does in the training itself.

    Epochs that were there before are not reported; nor is one again that restarted workers have trained again.

    Args:
        run: its folder, which need not be there yet.
        every: seconds between two looks at its ``metrics.jsonl``.
    """
    follower = _Follower(run / "metrics.jsonl", config)
    ended = Event()

    def follow() -> None:
        while not ended.wait(every):
            follower.look()

    thread = Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        follower.look()
        follower.progress.close()


class _Follower:
    def __init__(self, file: Path, config: TrainerConfig) -> None:
        self.file, self.metric = file, config.metric
        self.best, self.stale = -math.inf, 0
        self.rows = 0
        for row in self._read():
            self._count(row)
        self.progress = EpochProgress(config.epochs, 0, config.metric)

    def look(self) -> None:
        """Report what is new."""
        for row in self._read()[self.rows :]:
            self._count(row)
            if "loss" in row:
                self.progress.report(row, self.best, self.stale)

    def _read(self) -> list[Row]:
        try:
            return [json.loads(line) for line in self.file.read_text().splitlines()]
        except (OSError, ValueError):  # not there yet, or seen through a network in part
            return []

    def _count(self, row: Row) -> None:
        self.rows += 1
        if self.metric in row:
            better = float(row[self.metric]) > self.best
            self.best, self.stale = (float(row[self.metric]), 0) if better else (self.best, self.stale + 1)
