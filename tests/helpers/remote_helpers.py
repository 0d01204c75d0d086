"""A store in memory, and machines that have no files in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from palate.storage.remote.store import Store


def write(url: str, **files: str) -> None:
    """Put small texts into a folder of a store; ``a__b`` is ``a/b``."""
    files_of, path = fsspec.core.url_to_fs(url)
    for name, text in files.items():
        files_of.pipe_file(f"{path}/{name.replace('__', '/')}", text.encode())


def names(url: str) -> list[str]:
    """What is in a store, as its own tools see it."""
    files_of, path = fsspec.core.url_to_fs(url)
    files_of.invalidate_cache()
    return sorted(str(one).removeprefix(f"{path}/") for one in files_of.find(path))


def machine(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """From now on this is another machine, whose copies are in ``folder``."""
    monkeypatch.setenv("PALATE_CACHE", str(folder))


@contextmanager
def calls(monkeypatch: pytest.MonkeyPatch, method: str) -> Iterator[list[str]]:
    """Names that a method of :class:`Store` is called with while the block runs."""
    seen: list[str] = []
    place = {"get": 0, "put": 1, "remove": 0}[method]
    original: Callable[..., Any] = getattr(Store, method)

    def spy(self: Store, *words: Any) -> Any:
        seen.append(words[place])
        return original(self, *words)

    with monkeypatch.context() as patch:
        patch.setattr(Store, method, spy)
        yield seen


class Guarded(MemoryFileSystem):
    """The store in memory behind a password: ``guarded://ann:secret@host/shop`` is ``memory://host/shop``."""

    protocol = "guarded"
    cachable = False

    def __init__(self, username: str = "", password: str = "", **options: Any) -> None:
        if (username, password) != ("ann", "secret"):
            raise PermissionError("who are you?")
        super().__init__(**options)

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, str]:
        asked = urlsplit(path)
        return {"username": asked.username or "", "password": asked.password or ""}

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        whole = path.removeprefix("guarded://").rpartition("@")[2]
        return f"/{whole.strip('/')}"
