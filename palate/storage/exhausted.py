"""A full disk and used-up memory, recognised in the errors of the libraries underneath.

polars, safetensors, torch, numpy and sqlalchemy each report them in an exception of their own, some without the
system's error number, so that only its words show it.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from palate.errors import PalateError
from palate.storage.leftovers import meant

_FULL = {
    errno.ENOSPC: "no space left on the device",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file is larger than allowed",
}
_UNKNOWN = "the disk is full, or cannot be written to"
_FULL_WORDS = {
    "no space left on device": _FULL[errno.ENOSPC],
    "disk quota exceeded": _FULL[errno.EDQUOT],
    "file too large": _FULL[errno.EFBIG],
    "database or disk is full": _FULL[errno.ENOSPC],
    # sqlite and torch.save do not hand on the system's message.
    "disk i/o error": _UNKNOWN,
    "[enforce fail at inline_container.cc": _UNKNOWN,
    "basic_ios::clear: iostream error": _UNKNOWN,
}
_SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")  # numpy.save
_NO_MEMORY_WORDS = (
    "can't allocate memory",
    "cannot allocate memory",
    "out of memory",
    "not enough memory",
    "unable to allocate",
    "storage size calculation overflowed",
    "maximum allowed dimension exceeded",
)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__


def disk_full(error: BaseException) -> str | None:
    """What is wrong with the disk, if that is what the error is about.

    >>> disk_full(OSError(errno.ENOSPC, "No space left on device"))
    'no space left on the device'
    >>> disk_full(OSError(errno.ENOENT, "No such file or directory"))
    """
    for one in _chain(error):
        if isinstance(one, OSError) and one.errno in _FULL:
            return _FULL[one.errno]
        if isinstance(one, OSError) and one.errno is not None:
            continue
        if isinstance(one, OSError) and _SHORT_WRITE.fullmatch(str(one)):
            return _UNKNOWN
        text = str(one).lower()
        for words, sentence in _FULL_WORDS.items():
            if words in text:
                return sentence
    return None


def out_of_memory(error: BaseException) -> str | None:
    """What could not be allocated, in one line, if that is what the error is about.

    >>> out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4000 bytes."))
    "not enough memory (DefaultCPUAllocator: can't allocate memory: you tried to allocate 4000 bytes)"
    >>> out_of_memory(ValueError("no"))
    """
    for one in _chain(error):
        text = str(one).strip()
        if isinstance(one, MemoryError) or any(words in text.lower() for words in _NO_MEMORY_WORDS):
            line = text.splitlines()[0].rpartition("] . ")[2].rpartition("err == 0. ")[2].strip(" .") if text else ""
            return f"not enough memory ({line})" if line else "not enough memory"
    return None


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Errors of a full disk within the block name what was being written.

    Raises:
        PalateError: in place of the library's own error.
    """
    try:
        yield
    except PalateError:
        raise
    except Exception as error:
        problem = disk_full(error)
        if problem is None:
            raise
        raise full(problem, meant(path)) from error


def reserve(path: Path) -> None:
    """Take the room on the disk that a file's length promises.

    A file that is written through memory may have holes; where the disk has no room for one, the system ends the
    process without a word.

    Raises:
        PalateError: there is not so much room.
    """
    if hasattr(os, "posix_fallocate"):
        with writing(path), path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def full(problem: str, path: Path | str | None) -> PalateError:
    """The error of a full disk."""
    where = "" if path is None else f" while writing {path}"
    return PalateError(f"{problem}{where}", "Free some space, and give the same command again.")
