"""A training that is ended before its last epoch: what is asked, who asks for it, and what is recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from palate.runs.log import Row
from palate.runs.manual_stop import BY_CTRL_C, BY_FINISH, SECONDS, AskTwice, finish_requested, request_finish
from palate.runs.workers import Workers
from palate.training.config import TrainerConfig


def kept_row(rows: list[Row], config: TrainerConfig) -> Row:
    """The validation whose weights were saved."""
    validated = [row for row in rows if config.metric in row]
    return validated[-1] if config.keep == "last" else max(validated, key=lambda row: float(row[config.metric]))


class EarlyEnding:
    """Whether a run ends early; only one that has been validated can, for it has weights to keep.

    Args:
        folder: of the run, where a request may come in.
        workers: all of them end together.
    """

    def __init__(self, folder: Path, workers: Workers, config: TrainerConfig) -> None:
        self.folder, self.workers, self.config = folder, workers, config
        self.by: str | None = None

    def question(self, rows: list[Row]) -> str | None:
        """What Ctrl-C asks; None where there is no epoch to keep, or other workers would train on."""
        if not self._validated(rows) or self.workers.count > 1:
            return None
        kept = kept_row(rows, self.config)
        return (
            f"Interrupted (--resume goes on). To end here and keep epoch {kept['epoch']} "
            f"({self.config.metric} {kept[self.config.metric]:.4f}), press Ctrl-C again within {SECONDS:.0f} seconds."
        )

    def due(self, asked: AskTwice, rows: list[Row]) -> bool:
        """Whether training is to end now; all workers call it together and agree.

        What Ctrl-C has answered stands in the folder from here on, as every request does: where the process is killed
        while neighbours are fitted, a resumed one trains no further either.
        """
        if not self._validated(rows):
            return False
        if asked.answered:
            request_finish(self.folder, BY_CTRL_C)
        by = finish_requested(self.folder) if self.workers.main else None
        if self.workers.first(torch.tensor([float(by is not None)])).item():
            self.by = by or BY_FINISH
        return self.by is not None

    def facts(self, rows: list[Row], epochs: float) -> dict[str, Any]:
        """What ``run.json`` records: nothing of a training that came to its end."""
        return {} if self.by is None else {"ended_early": {"epoch": rows[-1]["epoch"], "of": epochs, "by": self.by}}

    def _validated(self, rows: list[Row]) -> bool:
        return any(self.config.metric in row for row in rows)
