"""Functions that workers of Ray call in tests; they import them from here."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import torch

from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.training.fit import train


def train_and_die_once(folder: Path, job: dict[str, Any]) -> None:
    """Train the dataset of a folder; the second worker kills itself after two epochs, once."""
    torch.set_num_threads(1)
    mark = folder / "died"

    def on_epoch(row: dict[str, Any]) -> None:
        if row["epoch"] == 2 and os.environ["RANK"] == "1" and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    train(Dataset.load(folder / "data"), out=folder / "killed", resume=True, on_epoch=on_epoch, **job)


def refuse() -> None:
    raise PalateError("nothing can be trained", "Do something else.")
