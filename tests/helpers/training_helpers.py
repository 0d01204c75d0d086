"""Functions that workers of Ray call in tests; they import them from here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.storage.lock import one_writer
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


HOLD = """
import sys, time
from pathlib import Path
from palate.storage.lock import alone

with alone(Path(sys.argv[1]), "taken", "Wait."):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def leave_the_folder_in_use_once(folder: Path, seconds: float) -> None:
    """Write a run's folder; the first time the first worker dies, and something keeps its lock for some seconds."""
    if os.environ["RANK"] != "0":
        return
    mark = folder / "died"
    if not mark.exists():
        mark.touch()
        words = [sys.executable, "-c", HOLD, str(folder / "run"), str(seconds)]
        holder = subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True)
        assert holder.stdout is not None
        holder.stdout.readline()
        os.kill(os.getpid(), signal.SIGKILL)
    with one_writer(folder / "run"):
        (folder / "run/written").touch()
