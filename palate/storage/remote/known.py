"""Files of a URL that are on this machine already, so that they need not be fetched."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from palate.storage.remote.home import WORK, Home
from palate.storage.remote.store import Entry, Listing

# A file of this machine: bytes, and when it was written.
State = tuple[int, int]


class Known:
    """Files of earlier copies, and of the working folder as far as it was sent, by name and content."""

    def __init__(self, home: Home) -> None:
        self._store = home.store
        self._files: dict[tuple[str, Entry], tuple[Path, bool]] = {}
        for record in home.folder.glob("*.json"):
            if record.stem == WORK:
                self._add_sent(home, read_record(record))
            else:
                for name, entry in listing_of(read_record(record)).items():
                    self._add(name, entry, home.place(record.stem), True)

    def missing(self, listing: Listing) -> list[str]:
        """Names that have to be fetched."""
        return [name for name, entry in listing.items() if (name, entry) not in self._files]

    def bring(self, name: str, entry: Entry, to: Path, link: bool) -> None:
        """Put a file where it is needed, from this machine or from the store.

        Args:
            link: whether it may be another name of a file that nobody writes to.
        """
        here, kept = self._files.get((name, entry), (None, False))
        if here is not None:
            to.parent.mkdir(parents=True, exist_ok=True)
            with suppress(OSError):
                if link and kept:
                    os.link(here, to)
                else:
                    shutil.copy2(here, to)
                if entry.size in (-1, to.stat().st_size):
                    return
            to.unlink(missing_ok=True)
        self._store.get(name, to, entry)

    def _add(self, name: str, entry: Entry, place: Path, kept: bool) -> None:
        path = place / name if name else place
        if entry.tag and path.is_file():
            self._files.setdefault((name, entry), (path, kept))

    def _add_sent(self, home: Home, facts: Any) -> None:
        with suppress(TypeError, KeyError, OSError, ValueError, AttributeError):
            base, place = listing_of(facts["base"]), home.place(WORK)
            for name, state in facts["sent"].items():
                path = place / name if name else place
                if name in base and path.is_file() and state_of(path) == tuple(state):
                    self._add(name, base[name], place, False)


def state_of(path: Path) -> State:
    """By what a file of this machine is known to have changed."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def read_record(path: Path) -> Any:
    """The JSON of a record, or None if it is missing or broken."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None


def listing_of(facts: Any) -> Mapping[str, Entry]:
    """A recorded listing; nothing, if it is broken."""
    try:
        return {name: Entry(*entry) for name, entry in facts.items()}
    except (TypeError, AttributeError):
        return {}
