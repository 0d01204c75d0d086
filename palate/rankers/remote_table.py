"""A table at a URL (``s3://``, ``gs://``, ``abfs://`` ...): a folder of Parquet parts, written through fsspec."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from palate.errors import PalateError, one_line

Append = Callable[[pl.DataFrame], None]
WritePart = Callable[[Path, pl.Schema], AbstractContextManager[Append]]
# What is written last: a folder without it is not whole, as Spark and others have it.
COMPLETE = "_SUCCESS"
_PART = re.compile(r"part-[0-9]{5}\.parquet")
_ROWS = 1_000_000


def is_url(path: Path | str) -> bool:
    """Whether it names a place that is reached through a file system of fsspec.

    >>> is_url("s3://bucket/recs"), is_url("recs.parquet"), is_url(r"C:\\\\recs.parquet")
    (True, False, False)
    """
    return re.match(r"[a-z][a-z0-9+.-]*://", str(path)) is not None


def check_url(url: str) -> None:
    """Refuse a place that cannot be written to, or that holds something else, before any work.

    Raises:
        PalateError: no such protocol, a package that is missing, no access, or a folder that is not empty.
    """
    _Folder(url).check()


@contextmanager
def parts_writer(url: str, schema: pl.Schema, write_part: WritePart) -> Iterator[Append]:
    """Yield a function that appends a frame; parts of about a million rows are sent as they fill.

    Parts of an interrupted call are removed first.

    Args:
        write_part: writes one part into a local file.
    """
    folder = _Folder(url)
    folder.check()
    folder.clear()
    waiting: list[pl.DataFrame] = []
    sent = 0

    def send() -> None:
        nonlocal sent
        with TemporaryDirectory(prefix="palate-part-") as scratch:
            file = Path(scratch) / f"part-{sent:05}.parquet"
            with write_part(file, schema) as append:
                for rows in waiting:
                    append(rows)
            folder.put(file)
        sent += 1
        waiting.clear()

    def append(rows: pl.DataFrame) -> None:
        waiting.append(rows)
        if sum(map(len, waiting)) >= _ROWS:
            send()

    yield append
    if waiting or not sent:
        send()
    folder.complete()


class _Folder:
    """A folder at a URL. Whatever its file system raises is one clear error."""

    def __init__(self, url: str) -> None:
        self.url = url
        import fsspec  # comes with torch

        with self._explained():
            self.files, self.path = fsspec.core.url_to_fs(url)
        self.path = self.path.rstrip("/")

    def names(self) -> list[str]:
        with self._explained():
            self.files.invalidate_cache()
            if not self.files.exists(self.path):
                return []
            return sorted(str(one).rstrip("/").rpartition("/")[2] for one in self.files.ls(self.path, detail=False))

    def check(self) -> None:
        names = [name for name in self.names() if name]
        if COMPLETE in names or not all(_PART.fullmatch(name) for name in names):
            raise PalateError(f"{self.url} exists already", "Choose another --out, or remove it first.")

    def clear(self) -> None:
        names = self.names()
        with self._explained():
            for name in names:
                self.files.rm_file(f"{self.path}/{name}")
            if "file" in self.files.protocol or "memory" in self.files.protocol:
                self.files.makedirs(self.path, exist_ok=True)  # elsewhere there are no folders, only names

    def put(self, file: Path) -> None:
        with self._explained():
            self.files.put_file(str(file), f"{self.path}/{file.name}")

    def complete(self) -> None:
        with self._explained():
            self.files.pipe_file(f"{self.path}/{COMPLETE}", b"")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except ImportError as error:
            raise PalateError(f"{self.url} cannot be used ({error})", "Install the package that it names.") from None
        except Exception as error:  # each file system has errors of its own
            message = f"{self.url} cannot be written ({one_line(error)})"
            raise PalateError(message, "Check the address and your access.") from None
