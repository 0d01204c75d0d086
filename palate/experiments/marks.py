"""A small file in the folder of a run or trial that records what decided it, so that the same one is found again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from palate.storage.files import read_json, write_json

MARK = "compare.json"


def read_mark(folder: Path) -> dict[str, Any]:
    """What :func:`write_mark` left in a folder; empty where nothing did."""
    path = folder / MARK
    found = read_json(path) if path.is_file() else {}
    return found if isinstance(found, dict) else {}


def write_mark(folder: Path, key: str, **facts: Any) -> None:
    """Write the key of what decides a folder's result into it, and ``facts`` for people."""
    write_json(folder / MARK, {"key": key, **facts})


def clear_other(folder: Path, key: str) -> None:
    """Remove a folder that has another key: it was left by an interrupted call with other options."""
    if folder.exists() and read_mark(folder).get("key") != key:
        shutil.rmtree(folder)
