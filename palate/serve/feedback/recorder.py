"""Keeps events: a thread writes them to a journal, and makes Parquet files of journals by size and age."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from palate.errors import PalateError
from palate.serve.feedback.events import Event
from palate.serve.feedback.journal import SUFFIX, Journal
from palate.serve.telemetry import Telemetry

# Events that wait for a disk that cannot be written to; those beyond are lost, and counted.
_MOST_WAITING = 100_000
# How many are written at a time, and how long a thing that failed is left alone.
_AT_ONCE, _PAUSE_SECONDS = 10_000, 5.0


class NotKept(Exception):
    """Feedback could not be written to the disk."""


class Recorder:
    """Appends events to a folder that several processes may share.

    Serving never waits for it: what was shown is queued, and a disk that cannot be written to is logged and counted.

    Args:
        folder: made where it is missing.
        seconds: after which a journal becomes a Parquet file.
        size: of a journal in bytes, likewise.
        flush: seconds that what was shown may wait for the disk. What was taken is written at once.
    """

    def __init__(
        self, folder: Path, telemetry: Telemetry, *, seconds: float = 3600.0, size: int = 2**25, flush: float = 0.2
    ) -> None:
        self.folder, self.telemetry, self._seconds, self._size, self._flush = folder, telemetry, seconds, size, flush
        self._queue: deque[tuple[Event, Future[None] | None]] = deque()
        self._wake, self._stopping = threading.Event(), False
        self._journal: Journal | None = None
        self._full: list[Journal] = []  # that could not be made Parquet files yet
        self._failing, self._again = "", 0.0
        self._thread = threading.Thread(target=self._run, name="feedback", daemon=True)

    def start(self) -> None:
        """Open the folder, and make Parquet files of what other processes left there when they were killed.

        Raises:
            PalateError: the folder cannot be written to.
        """
        try:
            self._journal = Journal.create(self.folder)
        except OSError as error:
            raise PalateError(
                f"feedback cannot be kept in {self.folder} ({error.strerror})", "Choose another --feedback."
            ) from None
        self._recover()
        self.telemetry.feedback_waiting.set_function(lambda: len(self._queue))
        self._thread.start()

    def shown(self, event: Event) -> None:
        """Keep an answer; returns at once."""
        if len(self._queue) >= _MOST_WAITING:
            self.telemetry.feedback_lost.inc(len(event.items))
            return
        self._queue.append((event, None))

    def taken(self, event: Event) -> Future[None]:
        """Keep what was taken.

        Returns:
            Done when it is on the disk; :class:`NotKept` if it cannot be.
        """
        done: Future[None] = Future()
        self._queue.append((event, done))
        self._wake.set()
        return done

    def close(self) -> None:
        """Write what waits, and make a Parquet file of the journal."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(30)

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(self._flush)
            self._wake.clear()
            self._step()
        self._again = 0.0
        self._step()
        self._attempt(self._rotate)
        for journal in self._full:  # the next process makes Parquet files of them
            journal.close()
        if self._queue:
            self.telemetry.log.error("feedback lost", events=len(self._queue))

    def _step(self) -> None:
        self._attempt(self._write_all)
        journal = self._journal
        due = journal is not None and (time.monotonic() - journal.begun > self._seconds or journal.size > self._size)
        if (due or self._full) and time.monotonic() >= self._again:
            self._attempt(self._rotate)

    def _attempt(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # whatever it is, serving and the next step go on
            self._failed(error)

    def _write_all(self) -> None:
        while self._queue and self._write():
            pass

    def _write(self) -> bool:
        """Write some of what waits; False: it has to wait longer."""
        some = [self._queue.popleft() for _ in range(min(len(self._queue), _AT_ONCE))]
        try:
            if time.monotonic() < self._again:
                raise NotKept(self._failing)
            if self._journal is None:
                self._journal = Journal.create(self.folder)
            self._journal.append("".join(event.line() for event, _ in some))
        except (OSError, NotKept) as error:
            if isinstance(error, OSError):
                self._failed(error)
            if isinstance(error, FileNotFoundError) and self._journal is not None:
                self._journal.close()  # the folder was moved away, and goes on at its old place
                self._journal = None
            for event, done in reversed(some):
                if done is None:
                    self._queue.appendleft((event, None))
                elif done.set_running_or_notify_cancel():  # the client gets an error, and sends it again
                    done.set_exception(NotKept(str(error)))
            return False
        self._failing = ""
        for event, done in some:
            self.telemetry.feedback_rows.labels(event.event).inc(len(event.items))
            if done is not None and done.set_running_or_notify_cancel():
                done.set_result(None)
        return True

    def _rotate(self) -> None:
        """Make Parquet files of the journal, of those that failed before, and of what killed processes left."""
        journal = self._journal
        if journal is not None and (journal.size or self._stopping):
            self._journal = None if self._stopping else Journal.create(self.folder)
            self._full.append(journal)
        elif journal is not None:
            journal.begun = time.monotonic()
        self._finish()
        if not self._stopping:
            self._recover()

    def _recover(self) -> None:
        mine = {journal.path for journal in [*self._full, self._journal] if journal is not None}
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            journal = None if path in mine else Journal.left_behind(path)
            if journal is not None:
                self.telemetry.log.info("feedback of a process that is gone", journal=str(path))
                self._full.append(journal)
        self._finish()

    def _finish(self) -> None:
        while self._full:
            try:
                self._full[0].to_parquet()
            except ValueError as error:
                self._failed(error)
            except (OSError, PalateError) as error:
                self._failed(error)
                return
            del self._full[0]

    def _failed(self, error: Exception) -> None:
        self._again = time.monotonic() + _PAUSE_SECONDS
        self.telemetry.feedback_errors.inc()
        if str(error) != self._failing:  # once, not five times a second
            self._failing = str(error)
            self.telemetry.log.error("feedback is not kept; serving goes on", error=self._failing)
