"""The interface of engines: a task is opened once per worker, and then called with numbered pieces."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

from palate.errors import PalateError

Piece = TypeVar("Piece")
Result = TypeVar("Result")
# Called with how many things (texts, users ...) are done.
Advance = Callable[[int], None]


def no_progress(things: int) -> None:
    """An :data:`Advance` that reports nothing."""


class Work(ABC, Generic[Piece, Result]):
    """An opened task, with its model in memory.

    Attributes:
        facts: what the caller needs to know of the model (its fingerprint, say); the same on every worker.
    """

    facts: Any = None

    @abstractmethod
    def __call__(self, pieces: Iterator[Piece], advance: Advance) -> Iterator[Result]:
        """One result per piece, in order. It may read ahead."""


class Task(ABC, Generic[Piece, Result]):
    """What is done with pieces. It is sent to workers, so it holds paths and options and no model.

    Attributes:
        folders: that every worker must see under the same path.
    """

    folders: tuple[Path, ...] = ()

    @abstractmethod
    def open(self) -> Work[Piece, Result]:
        """Load the model."""


class Workers(ABC, Generic[Piece, Result]):
    """Workers that have opened a task.

    Attributes:
        facts: :attr:`Work.facts`.
    """

    facts: Any

    @abstractmethod
    def map(
        self, pieces: Iterable[Piece], advance: Advance = no_progress, *, ordered: bool = False
    ) -> Iterator[tuple[int, Result]]:
        """The pieces' numbers, from 0, with their results, as they come.

        Pieces are read when there is room for them, so their number does not matter to memory.

        Args:
            ordered: the results come in the order of the pieces; a few that are early wait.

        Raises:
            PalateError: what a worker raises, and workers that die again and again.
        """


class Engine(ABC):
    """A place where tasks are done. A context manager: it lets go of what it has started when the block ends.

    Attributes:
        in_process: whether the work is done in this process, so that objects in memory serve as well as paths.
        restarts: whether :meth:`together` starts workers again that have died.
    """

    in_process: ClassVar[bool]
    restarts: ClassVar[bool] = False

    @abstractmethod
    def workers(self, task: Task[Piece, Result]) -> AbstractContextManager[Workers[Piece, Result]]:
        """Workers that open a task; they are gone when the block ends."""

    @contextmanager
    def divided(self, tasks: Sequence[Task[Piece, Result]]) -> Iterator[list[Workers[Piece, Result]]]:
        """Workers of each of several tasks that are done side by side, such as the shards of one model.

        Raises:
            PalateError: fewer workers than tasks.
        """
        with ExitStack() as opened:
            yield [opened.enter_context(self.workers(task)) for task in tasks]

    @abstractmethod
    def own_device(self, name: str) -> str:
        """The device of a model that this process holds beside the workers', of the one that is meant for these.

        Raises:
            PalateError: ``name`` is no device.
        """

    def together(self, function: Callable[[], None], scratch: Path, folders: Sequence[Path] = ()) -> None:
        """Call a function in all workers at once, as processes that ``torch.distributed`` can join: training.

        Args:
            function: of an importable module, or a ``partial`` of one. Where :attr:`restarts`, it is called anew after
                a worker's death, and goes on from what it has written.
            scratch: a folder beside what it writes, that the engine may make and removes.
            folders: that every worker must see under the same path.

        Raises:
            PalateError: what the function raises; workers that die again and again; an engine that cannot.
        """
        raise PalateError(f"{type(self).__name__} has no workers that train together", "Use another --engine.")

    def close(self) -> None:  # noqa: B027
        """Let go of what the engine has started."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
