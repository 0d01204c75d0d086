"""Reading many files by the workers of an engine: each reads some in threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, tee
from pathlib import Path
from typing import Generic, TypeVar

from palate.engines.base import Advance, Engine, Task, Work
from palate.progress import counter
from palate.threads import in_threads

T = TypeVar("T")
R = TypeVar("R")
# Files that a thread reads in one go, and such blocks per piece of the work.
_AT_ONCE, _BLOCKS = 32, 8


def read_by(
    engine: Engine,
    read: Callable[[T], R],
    names: Sequence[T],
    folder: Path,
    description: str,
    threads: int | None = None,
) -> list[R]:
    """What ``read`` gives for each name, in their order.

    Args:
        read: a function of an importable module, or a ``partial`` of one.
        folder: of the files, which all workers must see if it is there.
        description: of the progress.
        threads: of each worker, see :func:`in_threads`.

    Raises:
        PalateError: what ``read`` raises, and workers that die again and again.
    """
    if not names:
        return []
    blocks = [names[start : start + _AT_ONCE] for start in range(0, len(names), _AT_ONCE)]
    pieces = (blocks[start : start + _BLOCKS] for start in range(0, len(blocks), _BLOCKS))
    found: list[R] = []
    folders = (folder,) if folder.is_dir() else ()
    with engine.workers(ReadTask(read, threads, folders)) as workers, counter(description, len(names)) as advance:
        for _, results in workers.map(pieces, advance, ordered=True):
            found += results
    return found


@dataclass(frozen=True)
class ReadTask(Task[Sequence[Sequence[T]], list[R]], Generic[T, R]):
    """Reads blocks of files."""

    read: Callable[[T], R]
    threads: int | None
    folders: tuple[Path, ...] = ()

    def open(self) -> Work[Sequence[Sequence[T]], list[R]]:
        """Nothing is in memory."""
        return _Reading(self)


class _Reading(Work[Sequence[Sequence[T]], list[R]], Generic[T, R]):
    def __init__(self, task: ReadTask[T, R]) -> None:
        self._task = task

    def __call__(self, pieces: Iterator[Sequence[Sequence[T]]], advance: Advance) -> Iterator[list[R]]:
        pieces, ahead = tee(pieces)
        ready = in_threads(self._read_block, chain.from_iterable(ahead), threads=self._task.threads)
        for piece in pieces:
            results: list[R] = []
            for block in islice(ready, len(piece)):
                results += block
                advance(len(block))
            yield results

    def _read_block(self, block: Sequence[T]) -> list[R]:
        return [self._task.read(name) for name in block]
