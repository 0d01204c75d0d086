"""What runs in a worker of a Ray cluster. Ray is not needed to import this."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import palate
from palate.engines.base import Task, Work
from palate.errors import PalateError

# Packages whose version decides the bytes of a result.
_PACKAGES = ("numpy", "pillow", "polars", "tokenizers", "torch", "transformers")


def versions() -> dict[str, str | None]:
    """The versions of Palate and of the packages that decide results; None: not installed."""
    found: dict[str, str | None] = {"palate": palate.__version__}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def whole_paths(folders: Sequence[Path]) -> list[str]:
    """The folders from the root on, and with them the working folder where one is relative to it.

    >>> whole_paths([Path("/data/shop")])
    ['/data/shop']
    """
    home = Path.cwd()
    relative = not all(folder.is_absolute() for folder in folders)
    return [*(str(home / folder) for folder in folders), *([str(home)] if relative else [])]


def check_machine(expected: Mapping[str, str | None], home: str, folders: Sequence[str]) -> None:
    """Refuse a worker of other versions, or one that does not see the folders; it goes to the driver's folder.

    Args:
        expected: versions, of :func:`versions`.
        home: the driver's working folder, which becomes the worker's where it is there.
        folders: whole paths that must be there.

    Raises:
        PalateError: naming the worker's machine.
    """
    host = socket.gethostname()
    mine = versions()
    for name, version_here in expected.items():
        if mine.get(name) != version_here:
            raise PalateError(
                f"{name} is {mine.get(name) or 'not installed'} on the worker {host}, and {version_here or 'not'} here",
                "Install the same versions on every machine.",
            )
    for folder in folders:
        if not Path(folder).is_dir():
            raise PalateError(f"the worker {host} does not see the folder {folder}", "Put it on a shared disk.")
    with suppress(OSError):
        os.chdir(home)


class RayWorker:
    """An actor: opens a task once, and then does pieces."""

    def __init__(self) -> None:
        self._work: Work[Any, Any] | None = None

    def start(self, task: Task[Any, Any], expected: Mapping[str, str | None], home: str, folders: Sequence[str]) -> Any:
        """Open the task; its facts. The other arguments are those of :func:`check_machine`.

        Raises:
            PalateError: other versions, a folder that is not there, and what opening raises.
        """
        check_machine(expected, home, folders)
        self._work = task.open()
        return self._work.facts

    def run(self, piece: Any) -> tuple[Any, int]:
        """The result of a piece, and how many things were done for it."""
        assert self._work is not None, "start() comes first"
        done = 0

        def advance(things: int) -> None:
            nonlocal done
            done += things

        (result,) = self._work(iter([piece]), advance)
        return result, done
