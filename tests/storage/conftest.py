"""A store in memory that is empty, and a machine that knows nothing of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from remote_helpers import Guarded, machine


@pytest.fixture
def guarded(shop: str) -> str:
    """The same folder, at a URL with the password that it needs."""
    fsspec.register_implementation("guarded", Guarded, clobber=True)
    return shop.replace("memory://", "guarded://ann:secret@")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a folder that is not there yet."""
    machine(monkeypatch, tmp_path / "cache")
    yield "memory://bucket/shop"
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
