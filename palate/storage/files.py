"""Files that appear whole or not at all, and hashes of what is in them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from palate.errors import PalateError
from palate.storage.exchange import exchange
from palate.storage.exhausted import writing
from palate.storage.leftovers import beside, holding, new_part, remove, sweep
from palate.storage.small_files import parse_json, read_small


@contextmanager
def atomic_file(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path; rename it to ``path`` when the block ends without an error.

    Raises:
        PalateError: the disk is full, or ``path`` is no name.
    """
    path = _named(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    with writing(path), new_part(path) as part:
        file = part / path.name
        yield file
        file.replace(path)


@contextmanager
def atomic_folder(path: Path | str, *, replace: bool = False, carry: Sequence[str] = ()) -> Iterator[Path]:
    """Yield a temporary folder; it becomes ``path`` when the block ends without an error.

    A folder that is replaced is there, whole, until the new one is: the two change places in one step where the system
    can do that (Linux, macOS). Elsewhere it is moved aside first, and a process that is killed in between leaves it
    under a hidden name, from which the next one that writes here takes it back.

    Args:
        replace: Whether an existing folder may be replaced; else it is refused before any work.
        carry: Names in the replaced folder that the new one takes over, where it has none of its own. Files are linked,
            not moved, so that both are whole at any moment; where the file system has no links, they are copied.

    Raises:
        PalateError: there is something already, the disk is full, or ``path`` is no name.
    """
    path = _named(path)
    if path.is_symlink():  # what it leads to is replaced, and stays where it is
        path = path.resolve()
    sweep(path.parent)
    if path.exists() and not replace and (not path.is_dir() or any(path.iterdir())):
        raise _exists(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path), new_part(path) as part:
        yield part
        if replace and path.exists():
            for name in carry:
                _link(path / name, part / name)
            if not exchange(part, path):
                _swap(part, path)
        else:
            try:
                part.replace(path)
            except OSError:
                if path.exists():  # another process has made it in the meantime
                    raise _exists(path) from None
                raise


def _named(path: Path | str) -> Path:
    """The path, if its last part is a name.

    Raises:
        PalateError: it is empty, or ends in ``..``.
    """
    if Path(path).name in ("", ".."):
        shown = "." if str(path) == "." else f"'{path}'"
        raise PalateError(f"{shown} is no name of a new file or folder", "Give one, such as --out results.")
    return Path(path)


def _exists(path: Path) -> PalateError:
    return PalateError(f"{path} exists already", "Choose another --out, or remove it first.")


def _link(source: Path, target: Path) -> None:
    """Put a file or a tree of files under a second name, where there is none."""
    if not os.path.lexists(source) or os.path.lexists(target):
        return
    if source.is_symlink():
        target.symlink_to(source.readlink())
    elif source.is_dir():
        shutil.copytree(source, target, symlinks=True, copy_function=_link_file)
    else:
        _link_file(str(source), str(target))


def _link_file(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)


def _swap(part: Path, path: Path) -> None:
    """Replace in two steps, of which the first is undone if the second fails; see :mod:`palate.storage.leftovers`."""
    old = beside(path, "old")
    with holding(path):
        path.replace(old)
        try:
            part.replace(path)
        except BaseException:
            if not os.path.lexists(path):
                old.replace(path)
            raise
        remove(old)


def no_artefact(folder: Path, what: str, file: str, remedy: str) -> PalateError:
    """The error that refuses a folder without the file that makes it ``what``: a dataset, a run, a bundle.

    >>> print(no_artefact(Path("/"), "a run", "run.json", "Make one with `palate train`."))
    / is not a run (it has no run.json). Make one with `palate train`.
    """
    if folder.exists():
        return PalateError(f"{folder} is not {what} (it has no {file})", remedy)
    there = sorted(path.name for path in folder.parent.glob("*") if (path / file).is_file())
    near = get_close_matches(folder.name, there, n=1)
    return PalateError(f"{folder} is not there", f"Did you mean '{folder.parent / near[0]}'?" if near else remedy)


def write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_file(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically, with keys in their given order."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Read JSON; a missing or broken file is one clear error that names it."""
    return parse_json(read_small(path), str(path), "Make the artefact again.")


Hashed: TypeAlias = bytes | str | npt.NDArray[Any]


def digest(*parts: Hashed) -> str:
    """A short, stable hash (16 hex digits of SHA-256) of the parts, in order; of an array its bytes are hashed.

    >>> digest("a", "b") == digest("a", "b") != digest("ab")
    True
    """
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else _bytes(part)
        sha.update(len(data).to_bytes(8, "little"))
        sha.update(data)
    return sha.hexdigest()[:16]


def _bytes(part: bytes | npt.NDArray[Any]) -> bytes | memoryview:
    """The bytes of an array where they are, for a copy of a large one would be as large again."""
    return part if isinstance(part, bytes) else np.ascontiguousarray(part).reshape(-1).view(np.uint8).data


def file_digest(path: Path | str) -> str:
    """The same short hash of a file's content, read in blocks."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
