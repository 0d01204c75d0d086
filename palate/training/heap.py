"""Memory that training on a CPU has freed, and the C library keeps."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache


def release_freed() -> None:
    """Give freed memory back to the operating system, where the C library can."""
    if trim := _malloc_trim():
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    """The C library's call that gives freed memory back to the operating system; None where it is not glibc.

    Batches differ in size, so their tensors leave holes of all sizes in the heap: with glibc a run on a CPU would grow
    to several times what it needs. Releasing the holes now and then costs about 1% of the time.
    """
    if not sys.platform.startswith("linux"):
        return None
    try:
        trim: Callable[[int], int] = ctypes.CDLL("libc.so.6").malloc_trim
    except (OSError, AttributeError):  # another C library, which has no such call
        return None
    return trim
