"""Places to read from: a path as it is, and a URL as a copy of what is there now."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path

from palate.console import human_bytes, print_note
from palate.errors import PalateError
from palate.storage.files import atomic_file, atomic_folder, digest, write_json
from palate.storage.remote.home import WORK, Home, remote_folder
from palate.storage.remote.known import Known
from palate.storage.remote.shown import url_of
from palate.storage.remote.store import UNFINISHED, Listing, Store
from palate.storage.remote.urls import is_url, without_secrets

# How often a place is tried that changes while it is fetched.
_TRIES = 3
# Days after which a copy goes that nobody has used since, if a newer one of its URL is there.
_DAYS = 30
# What pathlib makes of a URL: one slash is lost. One letter is a drive.
_COLLAPSED = re.compile(r"[a-z][a-z0-9+.-]+:/[^/]")
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
        raise PalateError(f"{place} was a URL before it became a Path", "Give URLs as strings.")
    return fetched(str(place)) if is_url(place) else Path(place)


def find(place: Path | str | None) -> Path | None:
    """:func:`local` of a recorded place, or None where none was recorded or nothing is there any more.

    Raises:
        PalateError: no access to a URL.
    """
    if not place:
        return None
    try:
        found = local(place)
    except NotThere:
        return None
    return found if found.exists() else None


def newest(place: Path) -> Path:
    """For a copy, that of what is at its URL now; for another path the path itself, with links resolved."""
    url = url_of(place)
    return place.resolve() if url is None else fetched(url)


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
        if UNFINISHED in listing:
            raise PalateError(
                f"{store.shown} is not whole: something is being sent there, or was interrupted",
                "Wait for the command that sends it, or run that command again.",
            )
        version = digest(json.dumps(sorted(listing.items())))
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
