"""Tasks for the tests of engines; workers import them from here."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palate.engines.base import Advance, Task, Work
from palate.errors import PalateError
from palate.mllm.backends.base import Backend, Check, Done, ModelRequest, Reply


@dataclass(frozen=True)
class Squares(Task[int, int]):
    """Squares numbers, and writes a line for every start and every piece into ``folder``.

    Attributes:
        deadly: a piece at which the worker dies ...
        times: ... this often.
        poison: a piece that is refused.
        seconds: of each piece.
    """

    folder: Path
    deadly: int | None = None
    times: int = 1
    poison: int | None = None
    seconds: float = 0.0
    folders: tuple[Path, ...] = ()

    def open(self) -> Work[int, int]:
        self.note("starts", os.getpid())
        return _Squaring(self)

    def note(self, name: str, what: object) -> None:
        with (self.folder / name).open("a") as file:
            file.write(f"{what}\n")

    def notes(self, name: str) -> list[int]:
        path = self.folder / name
        return [int(line) for line in path.read_text().split()] if path.exists() else []


class _Squaring(Work[int, int]):
    facts = "squares"

    def __init__(self, task: Squares) -> None:
        self.task = task

    def __call__(self, pieces: Iterator[int], advance: Advance) -> Iterator[int]:
        task = self.task
        for number in pieces:
            time.sleep(task.seconds)
            if number == task.deadly and len(task.notes("deaths")) < task.times:
                task.note("deaths", number)
                os.kill(os.getpid(), signal.SIGKILL)
            if number == task.poison:
                raise PalateError(f"{number} is poison", "Leave it out.")
            task.note("pieces", number)
            advance(1)
            yield number * number


class Parrot(Backend):
    """Answers with the length of the question; the same wherever it runs."""

    batch_size = 2

    @property
    def identity(self) -> dict[str, Any]:
        return {"backend": "parrot", "model": "parrot"}

    def work(self, requests: Iterable[ModelRequest], done: Done, check: Check | None = None) -> None:
        waiting = list(requests)
        while waiting:
            request = waiting.pop(0)
            text = f"A question of {len(request.chat.text)} letters about likes and things."
            waiting.extend(done(Reply(request.key, text, None, 1, 1, 1, 0.0)))
