"""One process at a time in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from palate.errors import PalateError


@contextmanager
def alone(folder: Path, message: str, remedy: str) -> Iterator[list[int]]:
    """Hold a folder for this process, and for those that inherit the yielded descriptors.

    Where the system has no such lock, nothing is held and nothing yielded.

    Raises:
        PalateError: ``message`` and ``remedy``, if somebody else holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:
        yield []
        return
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise PalateError(message, remedy) from None
        yield [lock.fileno()]
