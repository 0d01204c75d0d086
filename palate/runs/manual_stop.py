"""A training that is stopped by hand, its best epoch kept: Ctrl-C pressed twice, or a request in the folder."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

# How long a second Ctrl-C is waited for.
SECONDS = 5.0
BY_CTRL_C, BY_FINISH = "Ctrl-C", "palate train --finish"
_REQUEST = "finish-requested"


class _Again(BaseException):
    """Ctrl-C was pressed a second time."""


class AskTwice:
    """A handler of SIGINT: Ctrl-C asks, and interrupts as ever unless it is pressed again within a few seconds.

    Args:
        question: what is asked, or None where a second Ctrl-C would mean nothing: then the first interrupts at once.
        show: prints a line.

    Attributes:
        answered: whether it was pressed twice: training is to end, and its best epoch is kept.
    """

    def __init__(self, question: Callable[[], str | None], show: Callable[[str], None]) -> None:
        self.question, self.show, self.answered = question, show, False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        question = None if self.answered else self.question()
        if question is None:
            raise KeyboardInterrupt
        self.show(question)
        try:
            signal.signal(signal.SIGINT, _again)
            time.sleep(SECONDS)
        except _Again:
            self.answered = True
            self.show("Ending: the best epoch is kept. (Ctrl-C now interrupts at once.)")
            return
        finally:
            signal.signal(signal.SIGINT, self)
        raise KeyboardInterrupt


def _again(number: int, frame: FrameType | None) -> None:
    raise _Again


@contextmanager
def asking_twice(question: Callable[[], str | None], show: Callable[[str], None]) -> Iterator[AskTwice]:
    """Let Ctrl-C ask for the length of the block, where somebody is at the terminal; elsewhere it stays what it is."""
    handler = AskTwice(question, show)
    usual = threading.current_thread() is threading.main_thread()
    usual = usual and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not (usual and sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()):
        yield handler
        return
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield handler
    finally:
        signal.signal(signal.SIGINT, before)


def request_finish(folder: Path, by: str = BY_FINISH) -> None:
    """Ask the process that trains in a run's folder to end after its next validation.

    The request stands until the run is finished: a process that is killed before that does not undo it.

    Args:
        by: how it was asked for; an earlier request keeps its own.
    """
    from palate.storage.files import atomic_file  # every command imports this module, and few need what that loads

    if finish_requested(folder) is None:
        with atomic_file(folder / _REQUEST) as part:
            part.write_text(by)


def finish_requested(folder: Path) -> str | None:
    """How an end was asked for by :func:`request_finish`, or None."""
    path = folder / _REQUEST
    return path.read_text() or BY_FINISH if path.exists() else None


def forget_request(folder: Path) -> None:
    """The run is finished."""
    (folder / _REQUEST).unlink(missing_ok=True)
