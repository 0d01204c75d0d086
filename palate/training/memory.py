"""Give memory that was freed back to the operating system.

Batches differ in size, so their tensors leave holes of all sizes in the C library's heap. With glibc a run on a CPU
would grow to several times what it needs; asking it now and then to release the holes costs about 1% of the time.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache


@cache
def _trim() -> Callable[[int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        trim: Callable[[int], int] = ctypes.CDLL("libc.so.6").malloc_trim
    except (OSError, AttributeError):  # another C library, which has no such call
        return None
    return trim


def release_freed_memory() -> None:
    """Release what can be released; does nothing where the C library is not glibc."""
    trim = _trim()
    if trim is not None:
        trim(0)
