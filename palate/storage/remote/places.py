"""Places to read from: a path as it is, and a URL as a copy of what is there now."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from palate.console import human_bytes, print_note
from palate.errors import PalateError
from palate.storage.files import atomic_file, atomic_folder, digest, write_json
from palate.storage.remote.home import WORK, Home, is_known_server, remote_folder
from palate.storage.remote.known import Known
from palate.storage.remote.shown import url_of
from palate.storage.remote.store import NAMES_ONLY, UNFINISHED, Listing, Store
from palate.storage.remote.urls import is_url, without_secrets

# How often a place is tried that changes while it is fetched.
_TRIES = 3
# Days after which a copy goes that nobody has used since, if a newer one of its URL is there.
_DAYS = 30
# File systems of this machine.
_HERE = {"file", "local", "memory"}
# What pathlib makes of a URL: one slash is lost. One letter is a drive.
_COLLAPSED = re.compile(r"[a-z][a-z0-9+.-]+:/[^/]")
# Stands for the content of files of which a server says nothing but the size: they are fetched once in a process.
_UNKNOWN = uuid4().hex
# URLs as they were given, with the passwords and signatures that no file keeps, by how they are shown.
_GIVEN: dict[str, str] = {}
# Bytes from which on it is said what is being fetched.
_LARGE = 50_000_000


class NotThere(PalateError):
    """There is nothing at a URL."""


class _Changed(Exception):
    """The place is no longer what its listing said."""


def local(place: Path | str) -> Path:
    """A path of this machine: the path itself, or that of a copy of what is at a URL now, for reading alone.

    A URL is asked what it has each time; files that are here already are not fetched again.

    Raises:
        PalateError: there is nothing at the URL, it is not whole, or there is no access.
    """
    if isinstance(place, Path) and _COLLAPSED.match(str(place)):
        shown = without_secrets(str(place).replace(":/", "://", 1))
        raise PalateError(f"{shown} was a URL before it became a Path", "Give URLs as strings.")
    return fetched(str(place)) if is_url(place) else Path(place)


def follow(place: Path | str) -> Path:
    """:func:`local` of a place that an artefact names, which somebody else may have made.

    The hosts of object stores are given by the user's own settings. In other URLs any host may stand, such as one of a
    company's own network: it is asked only if it has been before, by a URL that the user gave.

    Raises:
        PalateError: a server that is not asked, and what :func:`local` raises.
    """
    scheme = str(place).partition("://")[0]
    if is_url(place) and scheme not in NAMES_ONLY | _HERE and not is_known_server(str(place)):
        shown = without_secrets(str(place))
        raise PalateError(
            f"{shown} is named by an artefact, and nothing has been read from its server here yet",
            f"Give the place yourself (--dataset, --images). If you trust it: palate info {shown}.",
        )
    return local(place)


def find(place: Path | str | None) -> Path | None:
    """:func:`follow` a recorded place; None where none was recorded or nothing is there any more.

    Raises:
        PalateError: no access to a URL, or a server that is not asked.
    """
    if not place:
        return None
    try:
        found = follow(place)
    except NotThere:
        return None
    return found if found.exists() else None


def newest(place: Path) -> Path:
    """For a copy, that of what is at its URL now; for another path the path itself, with links resolved.

    A URL with a password is asked with it, if this process was given it.
    """
    url = url_of(place)
    return place.resolve() if url is None else fetched(_GIVEN.get(url, url))


def recorded(place: Path | str) -> str:
    """How an artefact names a place: by its URL without a password, or by its whole path.

    What :func:`local` takes, on this machine and, if it is a URL, on any other.
    """
    if is_url(place):
        return without_secrets(str(place))
    path = Path(place).resolve()
    return url_of(path) or str(path)


def under(folder: Path, place: str) -> Path | str:
    """A recorded place: a URL as it is, and a path seen from a folder.

    >>> under(Path("data/shop"), "images").as_posix(), under(Path("data/shop"), "s3://bucket/pictures")
    ('data/shop/images', 's3://bucket/pictures')
    """
    return place if is_url(place) else folder / place


def fetched(url: str) -> Path:
    """A copy of the file or folder at a URL."""
    store = Store(url)
    home = Home(store)
    for _ in range(_TRIES):
        listing = store.listing()
        if listing is None:
            raise NotThere(f"{store.shown} is not there", "Check the address.")
        if store.url != store.shown:
            _GIVEN[store.shown] = store.url
        if UNFINISHED in listing:
            raise PalateError(
                f"{store.shown} is not whole: something is being sent there, or was interrupted",
                "Wait for the command that sends it, or run that command again.",
            )
        known = all(entry.tag for entry in listing.values())
        version = digest(json.dumps(sorted(listing.items())), *([] if known else [url, _UNKNOWN]))
        place, record = home.place(version), home.record(version)
        with suppress(_Changed):
            if not (record.is_file() and place.exists()):
                with home.alone():
                    if not (record.is_file() and place.exists()):
                        _fetch(home, listing, version)
            with suppress(OSError):  # a record that another process is removing
                os.utime(record)
            return place
    raise PalateError(f"{store.shown} changes while it is fetched", "Try again when nobody writes there.")


def _fetch(home: Home, listing: Listing, version: str) -> None:
    _sweep()
    place, store, known = home.place(version), home.store, Known(home)
    shutil.rmtree(place.parent, ignore_errors=True)  # what was not recorded is not trusted
    missing = known.missing(listing)
    size = sum(max(listing[name].size, 0) for name in missing)
    if size >= _LARGE:
        print_note(f"Fetching {store.shown}: {len(missing):,} files, {human_bytes(size)}")
    with atomic_file(place) if "" in listing else atomic_folder(place) as part:

        def take(name: str) -> None:
            known.bring(name, listing[name], part / name if name else part, link=True)

        try:
            store.each(take, listing)
            complete = True
        except PalateError:
            if store.listing() == listing:
                raise
            complete = False
        if not complete or (missing and store.listing() != listing):
            raise _Changed
    write_json(home.record(version), {name: list(entry) for name, entry in listing.items()})


def _sweep() -> None:
    """Remove old copies of which there is a newer one."""
    for home in remote_folder().glob("*"):
        records = sorted(
            (record for record in home.glob("*.json") if record.stem != WORK), key=lambda one: one.stat().st_mtime
        )
        for record in records[:-1]:
            if time.time() - record.stat().st_mtime > _DAYS * 24 * 3600:
                record.unlink(missing_ok=True)
                shutil.rmtree(home / record.stem, ignore_errors=True)
