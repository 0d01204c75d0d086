"""A table at a URL (``s3://``, ``gs://``, ``abfs://`` ...): a folder of Parquet parts, sent as they fill."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from palate.errors import PalateError
from palate.storage.remote.store import Store

Append = Callable[[pl.DataFrame], None]
WritePart = Callable[[Path, pl.Schema], AbstractContextManager[Append]]
# What is written last: a folder without it is not whole, as Spark and others have it.
COMPLETE = "_SUCCESS"
_PART = re.compile(r"part-[0-9]{5}\.parquet")
_ROWS = 1_000_000


def check_url(url: str) -> None:
    """Refuse a place that cannot be written to, or that holds something else, before any work.

    Raises:
        PalateError: no such protocol, a package that is missing, no access, or a folder that is not empty.
    """
    store = Store(url)
    _parts(store)
    store.check_writable()


@contextmanager
def parts_writer(url: str, schema: pl.Schema, write_part: WritePart) -> Iterator[Append]:
    """Yield a function that appends a frame; parts of about a million rows are sent as they fill.

    Parts of an interrupted call are removed first.

    Args:
        write_part: writes one part into a local file.
    """
    store = Store(url)
    for name in _parts(store):
        store.remove(name)
    waiting: list[pl.DataFrame] = []
    sent = 0

    def send() -> None:
        nonlocal sent
        with TemporaryDirectory(prefix="palate-part-") as scratch:
            file = Path(scratch) / f"part-{sent:05}.parquet"
            with write_part(file, schema) as append:
                for rows in waiting:
                    append(rows)
            store.put(file, file.name)
        sent += 1
        waiting.clear()

    def append(rows: pl.DataFrame) -> None:
        waiting.append(rows)
        if sum(map(len, waiting)) >= _ROWS:
            send()

    yield append
    if waiting or not sent:
        send()
    store.write(COMPLETE, b"")


def _parts(store: Store) -> list[str]:
    """Parts that an interrupted call has left.

    Raises:
        PalateError: there is something else.
    """
    names = sorted(store.listing() or {})
    if not all(_PART.fullmatch(name) for name in names):
        raise PalateError(f"{store.shown} exists already", "Choose another --out, or remove it first.")
    return names
