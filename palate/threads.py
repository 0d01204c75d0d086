"""Work on many files in threads: reading, decoding and hashing let the interpreter go on with others."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_threads(
    work: Callable[[T], R], things: Iterable[T], *, threads: int | None = None, ahead: int = 64
) -> Iterator[R]:
    """``map(work, things)`` in threads: results in the order of the things, and an error where its result would be.

    Args:
        threads: by default as many as there are processors, at most 8.
        ahead: things that may be worked on, or be done, before their results are taken; never more, so that many
            things need no more memory than a few.

    >>> list(in_threads(len, ["a", "", "abc"], threads=2))
    [1, 0, 3]
    """
    waiting: deque[Future[R]] = deque()
    source = iter(things)
    with ThreadPoolExecutor(threads or min(8, os.cpu_count() or 1), thread_name_prefix="files") as pool:
        try:
            waiting.extend(pool.submit(work, thing) for thing in islice(source, ahead))
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(work, thing) for thing in islice(source, 1))
        finally:
            for future in waiting:
                future.cancel()
