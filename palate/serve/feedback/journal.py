"""One file of JSON lines that one process appends to, until it becomes a Parquet file of the same name."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from palate.serve.feedback.events import sync_folder, write_table
from palate.storage.leftovers import lock, same

SUFFIX = ".jsonl"


class Journal:
    """An open journal: ``YYYY-MM-DDTHHMMSS-PID.jsonl``, in UTC. The process holds a lock on it until it is closed, so
    that what is not locked was left by a process that is gone."""

    def __init__(self, path: Path, opened: int, size: int = 0) -> None:
        self.path, self._opened, self.size = path, opened, size
        self.begun = time.monotonic()

    @classmethod
    def create(cls, folder: Path) -> Journal:
        """A new journal under a name that nobody has, in this folder or in another process's.

        Raises:
            OSError: the folder cannot be written to.
        """
        folder.mkdir(parents=True, exist_ok=True)
        stamp = f"{datetime.now(UTC):%Y-%m-%dT%H%M%S}-{os.getpid()}"
        number = 1
        while True:
            name = stamp if number == 1 else f"{stamp}-{number}"  # containers all have the same process id
            path, number = folder / f"{name}{SUFFIX}", number + 1
            try:
                opened = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND, 0o666)
            except FileExistsError:
                continue
            if lock(opened) is False or not same(opened, path):  # another process has just found it, and removes it
                os.close(opened)
            elif path.with_suffix(".parquet").exists():  # whoever had the name is done with it
                path.unlink()
                os.close(opened)
            else:
                sync_folder(folder)
                return cls(path, opened)

    @classmethod
    def left_behind(cls, path: Path) -> Journal | None:
        """The journal of a process that is gone, without a last line that it did not finish; None: it is not ours."""
        try:
            opened = os.open(path, os.O_RDWR | os.O_APPEND)
        except OSError:
            return None
        if not lock(opened) or not same(opened, path):
            os.close(opened)
            return None
        size = os.fstat(opened).st_size
        with path.open("rb") as file:
            end = size
            while end:  # back to the end of the last whole line
                start = max(0, end - 65536)
                file.seek(start)
                newline = file.read(end - start).rfind(b"\n")
                if newline >= 0:
                    end = start + newline + 1
                    break
                end = start
        if end < size:
            os.ftruncate(opened, end)
        return cls(path, opened, end)

    def append(self, text: str) -> None:
        """Write lines and wait until they are on the disk; on an error nothing of them stays.

        Raises:
            OSError: the disk is full, for one; FileNotFoundError: somebody has moved the file.
        """
        if not same(self._opened, self.path):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path))
        data = memoryview(text.encode())
        try:
            while data:
                data = data[os.write(self._opened, data) :]
            os.fsync(self._opened)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._opened, self.size)
            raise
        self.size += len(text)

    def to_parquet(self) -> int:
        """Make it a Parquet file, remove it and close it; returns how many rows there were.

        A journal that is damaged gets the ending ``.damaged``, for people to look at.

        Raises:
            OSError, PalateError: the folder cannot be written to; the journal is still there and open.
            ValueError: it is damaged.
        """
        rows = 0
        if self.size and self.path.exists():
            try:
                rows = write_table(self.path, self.path.with_suffix(".parquet"))
            except pl.exceptions.PolarsError as error:
                aside = self.path.with_suffix(".damaged")
                self.path.rename(aside)
                self.close()
                raise ValueError(f"{aside} is no journal ({error})") from None
        self.path.unlink(missing_ok=True)
        self.close()
        return rows

    def close(self) -> None:
        os.close(self._opened)
