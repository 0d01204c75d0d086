"""Temporary names beside what is being written, and what becomes of those that killed processes leave behind.

``.NAME.HOST-PID.RANDOM.part`` is a folder that will become ``NAME``, or in which a file of that name is being written;
``.NAME.HOST-PID.RANDOM.old`` is the ``NAME`` that was moved aside for it. The process at work holds a lock on each,
which the system lets go of when the process ends, however it ends: so what is not locked was left behind.

Some network file systems keep locks on each machine for itself. What another machine has made is therefore left behind
only if it is not locked and has not changed for long.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from filelock import lock_descriptor

State = Literal["part", "old"]
# Names without a host are those of earlier versions.
_NAME = re.compile(r"\.(?P<name>.+)\.(?:(?P<host>[0-9a-f]{8})-)?\d+\.[0-9a-f]{8}\.(?P<state>part|old)", re.DOTALL)
# Seconds without a change after which another machine's is left behind. Between moving aside and replacing there are
# milliseconds.
_UNCHANGED: dict[str, float] = {"part": 24 * 3600, "old": 60}


def is_temporary(name: str) -> bool:
    """Whether a file or folder of this name is one of these.

    >>> is_temporary(".shop.5e6f7a8b-4711.0a1b2c3d.part"), is_temporary(".shop"), is_temporary("shop.part")
    (True, False, False)
    """
    return _NAME.fullmatch(name) is not None


def meant(path: Path) -> Path:
    """The path that a temporary one, or one within it, will have in the end.

    >>> meant(Path("data/.shop.5e6f7a8b-4711.0a1b2c3d.part/items.parquet")).as_posix()
    'data/shop/items.parquet'
    """
    return Path(*(match["name"] if (match := _NAME.fullmatch(name)) else name for name in path.parts))


def beside(path: Path, state: State = "part") -> Path:
    """A temporary name beside ``path``: on the same file system, so that a rename is atomic.

    It is absolute: some libraries take a relative ``~/x`` for the home folder.
    """
    return path.absolute().with_name(f".{path.name}.{_host()}-{os.getpid()}.{uuid.uuid4().hex[:8]}.{state}")


def _host() -> str:
    """This machine, in 8 hex digits of its name's hash."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


@contextmanager
def new_part(path: Path) -> Iterator[Path]:
    """A new empty folder beside ``path``, locked until the block ends and removed if it is there by then.

    A folder also for a file: some writers have temporary files of their own, or replace the one that was there.
    """
    while True:
        part = beside(path)
        part.mkdir()
        with holding(part) as held:
            if held is False:  # another process has just found it, not locked yet, and is removing it
                continue
            try:
                yield part
            finally:
                remove(part)
            return


@contextmanager
def holding(path: Path) -> Iterator[bool | None]:
    """Lock a file or folder while the block runs.

    Yields:
        Whether it is locked and still has this name; None where the system has no such locks.
    """
    try:
        opened = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    except OSError:  # gone, or not ours to open
        yield False
        return
    try:
        locked = lock(opened)
        yield same(opened, path) if locked else locked
    finally:
        os.close(opened)


def lock(opened: int) -> bool | None:
    """Lock an open file or folder until it is closed, here and in processes that inherit it.

    A descriptor of our own, where ``FileLock`` takes a path: what is being written is itself locked, a folder as well
    as a file, and no file remains where a file system has no locks.

    Returns:
        Whether it is locked; None where the system has no such locks.
    """
    try:
        return lock_descriptor(opened, blocking=False)
    except OSError:
        return None


def same(opened: int, path: Path) -> bool:
    """Whether an open file (or folder) still has this name."""
    try:
        return os.path.samestat(os.fstat(opened), path.stat())
    except OSError:
        return False


def sweep(folder: Path) -> None:
    """Remove what killed processes left in a folder, and put back what they had moved aside.

    What a living process holds stays, and so does everything where the system has no such locks. What another machine
    has made stays until it has not changed for a day; what it had moved aside, for a minute.
    """
    try:
        names = sorted(name for name in os.listdir(folder) if name[:1] == ".")  # noqa: PTH208 - names, not paths
    except OSError:
        return
    for name in names:
        match = _NAME.fullmatch(name)
        if match is None or (match["host"] not in (None, _host()) and _changing(folder / name, match["state"])):
            continue
        with holding(folder / name) as held:
            if not held:
                continue
            target = folder / match["name"]
            if match["state"] == "old" and not os.path.lexists(target):
                (folder / name).rename(target)
            else:
                remove(folder / name)


def _changing(path: Path, state: str) -> bool:
    """Whether it, or a file in it, has changed lately, as far as the two machines' clocks agree."""
    try:
        # An entry's own time too: a rename changes that one only.
        latest = max(max(one.lstat().st_mtime, one.lstat().st_ctime) for one in (path, *path.rglob("*")))
    except OSError:  # something in it has just gone
        return True
    return time.time() - latest < _UNCHANGED[state]


def remove(path: Path) -> None:
    """Remove a file or folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
