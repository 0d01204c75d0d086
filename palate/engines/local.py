"""The engine without workers: everything is done in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from palate.device import parse_device
from palate.engines.base import Advance, Engine, Piece, Result, Task, Work, Workers, no_progress


class LocalEngine(Engine):
    """Does all pieces in this process, one after the other."""

    in_process: ClassVar[bool] = True

    @contextmanager
    def workers(self, task: Task[Piece, Result]) -> Iterator[Workers[Piece, Result]]:
        """See :meth:`Engine.workers`."""
        yield _LocalWorkers(task.open())

    def together(self, function: Callable[[], None], scratch: Path, folders: Sequence[Path] = ()) -> None:
        """Call it here: alone, or in each of the processes that a launcher started."""
        function()

    def own_device(self, name: str) -> str:
        """The device itself."""
        return parse_device(name)


LOCAL = LocalEngine()


class _LocalWorkers(Workers[Piece, Result]):
    def __init__(self, work: Work[Piece, Result]) -> None:
        self._work, self.facts = work, work.facts

    def map(
        self, pieces: Iterable[Piece], advance: Advance = no_progress, *, ordered: bool = False
    ) -> Iterator[tuple[int, Result]]:
        yield from enumerate(self._work(iter(pieces), advance))
