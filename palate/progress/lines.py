"""Lines about long work for a log or a pipe: one every few seconds, fewer as hours go by."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from palate.progress.pace import Clock, Pace

FIRST, BETWEEN, STILL = 2.5, 5.0, 20.0
# Lines come further apart as work gets older: some three hundred lines in a day.
_SHARE = 50
# Work that begins this soon after other work is part of it: many short pieces are one long one.
_PAUSE = 2.5


class Lines:
    """Prints where the work is that is going on, the innermost of nested ones after those that it is part of.

    Args:
        write: takes a line; by default standard error.
        clock: seconds; a test gives its own and calls :meth:`look` itself.
        first: seconds before the first line.
        watched: whether a thread looks every moment: steps may take minutes, and then nobody else would.
    """

    def __init__(
        self,
        write: Callable[[str], None] | None = None,
        clock: Clock = time.monotonic,
        first: float = FIRST,
        watched: bool = True,
    ) -> None:
        self.write, self.clock, self.first, self.watched = write or _to_stderr, clock, first, watched
        self._work: list[Pace] = []
        self._seen: set[Pace] = set()  # work that a line was written of
        self._lock = threading.RLock()
        self._counts: list[tuple[int, int]] = []
        self._since = self._last = self._ended = -float("inf")
        self._thread: threading.Thread | None = None

    def begin(self, pace: Pace) -> None:
        """Work begins: lines will report it."""
        with self._lock:
            now = self.clock()
            if not self._work and now - self._ended > _PAUSE:
                self._since = now
            self._work.append(pace)
            if self.watched and (self._thread is None or not self._thread.is_alive()):
                self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)
                self._thread.start()

    def end(self, pace: Pace, closing: bool = True) -> None:
        """Work ends; where lines reported it, a last one says so (unless ``closing`` is false: others say it)."""
        with self._lock:
            place = self._work.index(pace)
            del self._work[place]
            self._ended = self.clock()
            if pace in self._seen:
                self._seen.discard(pace)
                if closing:
                    self.say(self._path(self._work[:place], pace.end_text()))

    def look(self) -> None:
        """Write a line if one is due."""
        with self._lock:
            if not self._work:
                return
            now = self.clock()
            old = [place for place, one in enumerate(self._work) if now - one.began >= self.first]
            place = old[-1] if old else len(self._work) - 1  # of many short pieces, the one that is at work
            counts = [(id(one), one.done) for one in self._work[: place + 1]]
            if now >= self.due(moved=counts != self._counts):
                self._counts = counts
                if old:
                    self._seen.add(self._work[place])
                self.say(self._path(self._work[:place], self._work[place].text()))

    def due(self, moved: bool = True) -> float:
        """When the next line is due: later where there is nothing new to say."""
        age = self.clock() - self._since
        between = max(BETWEEN if moved else STILL, age / _SHARE)
        return max(self._since + self.first, self._last + between)

    def _path(self, above: Sequence[Pace], text: str) -> str:
        return " > ".join([*(_short(one) for one in above), text])

    def say(self, line: str) -> None:
        """Write a line; the next one can wait."""
        self._last = self.clock()
        self.write(line)

    def _watch(self) -> None:
        while True:
            time.sleep(0.5)
            with self._lock:
                if not self._work and self.clock() - self._ended > _PAUSE:
                    self._thread = None
                    return
                self.look()


def _short(pace: Pace) -> str:
    """Work that other work is part of, in a few words."""
    total = "" if pace.total is None else f"/{pace.total:,}"
    return f"{pace.description} {pace.done:,}{total}" if pace.total or pace.done else pace.description


def _to_stderr(line: str) -> None:
    with suppress(OSError):  # whoever read the lines is gone, or the disk of the log is full: the work goes on
        print(line, file=sys.stderr, flush=True)


LINES = Lines()
