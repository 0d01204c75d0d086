"""What this machine keeps of a URL.

::

    ~/.cache/palate/remote/        PALATE_CACHE names another folder
      5e6f7a8b9c0d1e2f/            of one URL
        url                        which one, without a password
        0a1b2c3d4e5f6071/shop      a copy as it was at one moment; nobody writes there
        0a1b2c3d4e5f6071.json      the listing of then
        work/shop                  what commands of this machine write there
        work.json                  what of it was sent
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, suppress
from functools import cached_property
from pathlib import Path

from palate.storage.cache import cache_folder
from palate.storage.files import digest, write_text
from palate.storage.lock import alone
from palate.storage.remote.store import Store
from palate.storage.remote.urls import name_of, server_of

WORK = "work"
# Seconds that a process waits for another one that fetches from, or sends to, the same URL.
_PATIENCE = 3600.0


def remote_folder() -> Path:
    """Folder of all copies."""
    return Path(os.path.abspath(cache_folder() / "remote"))  # noqa: PTH100 - links stay, and nothing need be there


def is_known_server(url: str) -> bool:
    """Whether something was read from, or sent to, the server of a URL before."""
    server = server_of(url)
    for name in remote_folder().glob("*/url"):
        with suppress(OSError):
            if server_of(name.read_text("utf-8")) == server:
                return True
    return False


class Home:
    """The folder of one URL."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.folder = remote_folder() / digest(store.shown)
        self.name = name_of(store.url)

    def place(self, version: str) -> Path:
        """Where a copy is."""
        return self.folder / version / self.name

    def record(self, version: str) -> Path:
        """The file that says what a copy holds."""
        return self.folder / f"{version}.json"

    def alone(self) -> AbstractContextManager[list[int]]:
        """Hold the folder; another process that does is waited for."""
        self._named  # noqa: B018
        message = f"another process has been working with the copy of {self.store.shown} for an hour"
        return alone(self.folder, message, "Wait until it is done, or end it.", _PATIENCE)

    @cached_property
    def _named(self) -> None:
        if not (self.folder / "url").is_file():
            write_text(self.folder / "url", self.store.shown)
