"""Files that appear whole or not at all, and hashes of what is in them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from palate.errors import PalateError
from palate.small_files import parse_json, read_small


def _sibling(path: Path) -> Path:
    """A name beside ``path`` (same file system, so that a rename is atomic)."""
    return path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.part")


@contextmanager
def atomic_file(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path; rename it to ``path`` when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _sibling(path)
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path | str, *, replace: bool = False, carry: Sequence[str] = ()) -> Iterator[Path]:
    """Yield a temporary folder; move it to ``path`` when the block ends without an error.

    Args:
        replace: Whether an existing folder may be replaced; else it is refused before any work.
        carry: Names in the replaced folder that move over to the new one, where that has none of its own.
    """
    path = Path(path)
    if path.exists() and not replace and (not path.is_dir() or any(path.iterdir())):
        raise PalateError(f"{path} exists already", "Choose another --out, or remove it first.")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _sibling(path)
    part.mkdir()
    try:
        yield part
        if path.exists():
            old = _sibling(path)
            path.replace(old)
            part.replace(path)
            for name in carry:
                if (old / name).exists() and not (path / name).exists():
                    (old / name).replace(path / name)
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        else:
            part.replace(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


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


def digest(*parts: bytes | str) -> str:
    """A short, stable hash (16 hex digits of SHA-256) of the parts, in order.

    >>> digest("a", "b") == digest("a", "b") != digest("ab")
    True
    """
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        sha.update(len(data).to_bytes(8, "little"))
        sha.update(data)
    return sha.hexdigest()[:16]


def file_digest(path: Path | str) -> str:
    """The same short hash of a file's content, read in blocks."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
