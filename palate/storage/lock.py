"""One process at a time in a folder."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from palate.errors import PalateError
from palate.storage.exhausted import writing
from palate.storage.leftovers import lock, same, sweep

# Seconds that a worker which was started again waits for the one before it, which may still be ending.
_PATIENCE = 120.0
_PAUSE = 0.2
# The variable of the environment in which torchrun, and Palate's engine of Ray, count restarts.
RESTARTS = "TORCHELASTIC_RESTART_COUNT"


class FolderInUse(PalateError):
    """Another process holds a folder. It is over when that process ends, so trying again may help."""


@contextmanager
def alone(folder: Path, message: str, remedy: str, wait: float = 0.0) -> Iterator[list[int]]:
    """Hold a folder for this process, and for those that inherit the yielded descriptors.

    Where the system has no such lock, nothing is held and nothing yielded.

    Args:
        wait: seconds in which a process that holds it may let go of it.

    Raises:
        FolderInUse: ``message`` and ``remedy``, if another process holds it.
        PalateError: the disk is full.
    """
    until = time.monotonic() + wait
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as file:
            locked = lock(file.fileno())
            if locked is False:
                if time.monotonic() >= until:
                    raise FolderInUse(message, remedy)
                time.sleep(_PAUSE)
                continue
            if locked and not same(file.fileno(), folder / ".lock"):  # whoever held it has just removed the folder
                continue
            with writing(folder):
                yield [file.fileno()] if locked else []
            return


@contextmanager
def one_writer(out: Path | str, main: bool = True) -> Iterator[None]:
    """Hold the folder of a run that is being written, and remove what a killed process left there.

    A worker that was started again waits for the one before it, up to two minutes.

    Args:
        main: whether this is the worker that writes; the others hold nothing.

    Raises:
        FolderInUse: another process is at work there.
    """
    if not main:
        yield
        return
    folder = Path(out)
    message, wait = f"another process is at work in {folder}", _PATIENCE if restarts() else 0.0
    with alone(folder, message, "Wait until it is done, or choose another --out.", wait):
        sweep(folder)
        sweep(folder / "checkpoints")
        yield


def restarts() -> int:
    """How often this worker's group was started again, as ``torchrun`` counts in the environment."""
    count = os.environ.get(RESTARTS, "0")
    return int(count) if count.isdigit() else 0
