"""Two files or folders change places in one step, where the system can do that."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

_AT_FDCWD = -100  # Linux: paths are relative to the working folder
_SWAP = 2  # RENAME_EXCHANGE of Linux and RENAME_SWAP of macOS
# The system or the file system (NFS, many in user space) has no such call; some sandboxes forbid it.
_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM}


@cache
def _call() -> Callable[[bytes, bytes], int] | None:
    if not sys.platform.startswith(("linux", "darwin")):
        return None
    library = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "darwin":
        swap = getattr(library, "renamex_np", None)
        return None if swap is None else lambda one, other: int(swap(one, other, ctypes.c_uint(_SWAP)))
    rename = getattr(library, "renameat2", None)
    if rename is None:  # a C library that is too old, or another one
        return None
    return lambda one, other: int(rename(_AT_FDCWD, one, _AT_FDCWD, other, ctypes.c_uint(_SWAP)))


def exchange(one: Path, other: Path) -> bool:
    """Let two paths of one file system change places atomically; False where the system cannot, and nothing is done.

    Raises:
        OSError: it can, and it failed.
    """
    call = _call()
    if call is None:
        return False
    if call(os.fsencode(one), os.fsencode(other)) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), str(one), None, str(other))
