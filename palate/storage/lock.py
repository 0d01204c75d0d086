"""One process at a time in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from palate.errors import PalateError
from palate.storage.exhausted import writing
from palate.storage.leftovers import lock, same, sweep


@contextmanager
def alone(folder: Path, message: str, remedy: str) -> Iterator[list[int]]:
    """Hold a folder for this process, and for those that inherit the yielded descriptors.

    Where the system has no such lock, nothing is held and nothing yielded.

    Raises:
        PalateError: ``message`` and ``remedy``, if another process holds it; or the disk is full.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as file:
            locked = lock(file.fileno())
            if locked is False:
                raise PalateError(message, remedy)
            if locked and not same(file.fileno(), folder / ".lock"):  # whoever held it has just removed the folder
                continue
            with writing(folder):
                yield [file.fileno()] if locked else []
            return


@contextmanager
def one_writer(out: Path | str, main: bool = True) -> Iterator[None]:
    """Hold the folder of a run that is being written, and remove what a killed process left there.

    Args:
        main: whether this is the worker that writes; the others hold nothing.

    Raises:
        PalateError: another process is at work there.
    """
    if not main:
        yield
        return
    folder = Path(out)
    with alone(folder, f"another process is at work in {folder}", "Wait until it is done, or choose another --out."):
        sweep(folder)
        sweep(folder / "checkpoints")
        yield
