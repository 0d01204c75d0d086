"""A place to write to: a working folder of this machine, and what of it is at its URL."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from uuid import uuid4

from palate.errors import PalateError
from palate.storage.files import write_json
from palate.storage.leftovers import remove
from palate.storage.remote.home import WORK, Home
from palate.storage.remote.known import Known, State, listing_of, read_record, state_of
from palate.storage.remote.store import UNFINISHED, Entry, Listing, Store


class Output:
    """A file or folder that is made here and sent to a URL.

    The remote place is what counts: the working folder of an earlier command is used again where nobody has written
    to the URL since, and made anew from what is there where somebody has.

    Attributes:
        place: the working file or folder; it need not exist.
    """

    def __init__(self, url: str) -> None:
        self.store = Store(url)
        self._home = Home(self.store)
        self.place = self._home.place(WORK)
        self._record = self._home.record(WORK)
        self._writer = uuid4().hex
        self._base: Listing = {}
        self._sent: Mapping[str, State] = {}

    def open(self) -> None:
        """Bring the working folder up to date.

        Raises:
            PalateError: no access, or nothing may be written there.
        """
        self.store.check_writable()
        with self._home.alone():
            there = self.store.listing() or {}
            ours = self._read() and self._is_whole() and (self._base == there or self._is_ours(there))
            self.place.parent.mkdir(parents=True, exist_ok=True)
            if not ours:
                self._take_over({name: entry for name, entry in there.items() if name != UNFINISHED})

    def send(self) -> bool:
        """Send what has changed since the last time; whether there was anything.

        A folder is marked as not whole while it is being sent. Files in its folders go first, several at once, then its
        own files in the order in which they were written, JSON last: manifests are such files.

        Raises:
            PalateError: no access, or somebody else has written to the same files.
        """
        with self._home.alone():
            self._read()  # another command of this machine may have sent something in the meantime
            here = _files(self.place)
            changed = [name for name, state in here.items() if self._sent.get(name) != state]
            gone = [name for name in self._sent if name not in here]
            if not changed and not gone:
                return False
            there = self.store.listing() or {}
            if not self._is_ours(there):
                self._check_conflict(there, [*changed, *gone])
            frozen = Path(mkdtemp(prefix=".sending-", dir=self._home.folder))
            try:
                changed = self._freeze(changed, frozen)
                self._send(frozen, changed, gone)
            finally:
                shutil.rmtree(frozen, ignore_errors=True)
            there = self.store.listing() or {}
            # Of what others have added meanwhile this folder knows nothing: the next command fetches it.
            self._base = {name: entry for name, entry in there.items() if name in here}
            self._sent = {name: state for name, state in here.items() if name in changed or name in self._sent}
            self._write()
            return True

    def _send(self, frozen: Path, changed: list[str], gone: list[str]) -> None:
        if changed == [""]:
            self.store.put(frozen / WORK, "")
            return
        self.store.write(UNFINISHED, self._writer.encode())
        inside = [name for name in changed if "/" in name]
        own = [name for name in changed if "/" not in name]
        self.store.each(lambda name: self.store.put(frozen / name, name), inside)
        for name in sorted(own, key=lambda name: (name.endswith(".json"), (frozen / name).stat().st_mtime_ns)):
            self.store.put(frozen / name, name)
        for name in gone:
            self.store.remove(name)
        self.store.remove(UNFINISHED)

    def _freeze(self, names: list[str], frozen: Path) -> list[str]:
        """Put the files as they are now under second names, for a command at work replaces its files whole.

        Returns:
            Those that are still there.
        """
        found = []
        for name in names:
            source, target = self._at(name), frozen / (name or WORK)
            target.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                try:
                    os.link(source, target)
                except FileNotFoundError:
                    raise
                except OSError:  # a file system without links
                    shutil.copy2(source, target)
                found.append(name)
        return found

    def _take_over(self, there: Listing) -> None:
        """Make the working folder a copy of what is there, which is the command's own to change."""
        known, here = Known(self._home), _files(self.place)
        same = {name for name, state in here.items() if self._sent.get(name) == state and name in there}
        same = {name for name in same if self._base.get(name) == there[name]}
        if not same:
            remove(self.place)
        for name in here.keys() - same:
            remove(self._at(name))

        def take(name: str) -> None:
            known.bring(name, there[name], self._at(name), link=False)

        self.store.each(take, there.keys() - same)
        self._writer, self._base, self._sent = uuid4().hex, there, _files(self.place)
        self._write()

    def _at(self, name: str) -> Path:
        return self.place / name if name else self.place

    def _is_whole(self) -> bool:
        """Whether all that was sent is still here: what somebody has removed by hand is not to be removed there."""
        return all(self._at(name).is_file() for name in self._sent)

    def _is_ours(self, there: Listing) -> bool:
        """Whether this very folder has been sent there in part."""
        return UNFINISHED in there and self.store.read_mark() == self._writer

    def _check_conflict(self, there: Listing, names: list[str]) -> None:
        for name in names:
            if there.get(name) != self._base.get(name):
                raise PalateError(
                    f"{self.store.shown} has changed since this command began: {name or 'it'} is another's now",
                    "Choose another place: only one machine at a time writes to one.",
                )

    def _read(self) -> bool:
        """Take up what an earlier command has recorded; whether it has."""
        facts = read_record(self._record)
        try:
            sent = {name: (int(size), int(when)) for name, (size, when) in facts["sent"].items()}
            self._writer, self._base, self._sent = str(facts["writer"]), listing_of(facts["base"]), sent
        except (ValueError, TypeError, KeyError, AttributeError):
            return False
        return True

    def _write(self) -> None:
        write_json(self._record, {"writer": self._writer, "base": _plain(self._base), "sent": _plain(self._sent)})


def _plain(files: Mapping[str, tuple[int, int] | Entry]) -> dict[str, list[int | str]]:
    return {name: list(state) for name, state in files.items()}


def _files(place: Path) -> dict[str, State]:
    """What is to be sent: all but hidden names, which are those of locks and of what is being written."""
    if place.is_file():
        return {"": state_of(place)}
    found = {}
    for folder, folders, names in os.walk(place):
        folders[:] = sorted(name for name in folders if name[:1] != ".")
        for name in sorted(names):
            path = Path(folder) / name
            if name[:1] != "." and path.is_file():
                found[path.relative_to(place).as_posix()] = state_of(path)
    return found
