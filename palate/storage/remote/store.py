"""A file or folder at a URL, through fsspec. Whatever its file system raises is one clear error."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple
from uuid import uuid4

from palate.errors import PalateError, one_line
from palate.storage.leftovers import is_temporary
from palate.storage.remote.urls import checked_url, without_secrets

# Of Palate's extras, the one that has the package of a protocol.
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "hf": "hub"}
# Stores that have names and no folders: to make a folder would at best do nothing, and at worst make a bucket.
NAMES_ONLY = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "hf", "oss", "oci", "tos"}
# Where nothing is written, and what serves instead.
_READ_ONLY = {
    **dict.fromkeys(("http", "https"), "Give a place in a store, such as s3://bucket/runs/shop, or a local path."),
    "hf": "Every file would be a commit: give a local path, and publish a bundle by `palate bundle --push`.",
}
# Facts by which a file system tells one content from another, the best first.
_TAGS = (
    *("ETag", "etag", "md5Hash", "content_md5", "Content-MD5", "checksum", "sha256", "blob_id", "crc32c", "Digest"),
    *("LastModified", "last_modified", "Last-Modified", "mtime", "updated", "modified", "created"),
)
_AT_ONCE = 16
# What the hub puts into every repository.
_OF_THE_HUB = ".gitattributes"
# There while a folder is being sent: whoever finds it does not read the others.
UNFINISHED = "_UPLOADING"


class Entry(NamedTuple):
    """A file: its size in bytes (-1: not known), and a text that changes with its content."""

    size: int
    tag: str


# By relative name, or by "" where the place itself is a file.
Listing = Mapping[str, Entry]


class Store:
    """A place at a URL.

    Attributes:
        url: its address; :attr:`shown` is the one without a password.
    """

    def __init__(self, url: str) -> None:
        self.url = checked_url(url)
        self.shown = without_secrets(self.url)
        self.scheme = self.url.partition("://")[0]
        import fsspec  # comes with torch

        try:
            self._files, path = fsspec.core.url_to_fs(self.url)
        except ImportError as error:
            extra = _EXTRAS.get(self.scheme)
            remedy = f'Install it: pip install "palate[{extra}]".' if extra else f"{error}."
            raise PalateError(
                f"{self.shown}: the package for {self.scheme}:// is not installed", without_secrets(remedy)
            ) from None
        except ValueError as error:
            message = f"{self.shown}: there is no file system for {self.scheme}://"
            if "protocol" not in str(error).lower():
                message = f"{self.shown} is no valid address ({without_secrets(one_line(error))})"
            raise PalateError(message, "s3://, gs://, hf:// and others of fsspec are known.") from None
        except Exception as error:  # some connect already
            raise self._problem(error, "reached") from None
        self._path = str(path).rstrip("/")

    def listing(self) -> Listing | None:
        """Every file, as the store has them now; None where there is nothing.

        Raises:
            PalateError: no access, or a name that would lead out of a folder.
        """
        with self._explained("read"):
            self._files.invalidate_cache()
            try:
                own = self._files.info(self._path)
                if own["type"] == "file" and not str(own["name"]).endswith("/"):
                    return {"": _entry(own)}
                found = self._files.find(self._path, detail=True)
            except FileNotFoundError:
                return None
        root = f"{self._path.lstrip('/')}/"
        listing = {}
        for path, info in found.items():
            name = str(path).lstrip("/").removeprefix(root)
            if info.get("type") != "file" or name == root.rstrip("/") or name.endswith("/") or name == _OF_THE_HUB:
                continue  # a folder, the empty object that stands for one, or no part of what was put there
            self._check_name(name)
            if not any(is_temporary(part) for part in name.split("/")):
                listing[name] = _entry(info)
        for name in listing:
            if any(str(parent) in listing for parent in PurePosixPath(name).parents):
                raise PalateError(
                    f"{self.shown}: {name!r} is in a folder that is a file as well", "Rename one of them."
                )
        return listing or None

    def get(self, name: str, to: Path, entry: Entry) -> None:
        """Fetch one file.

        Raises:
            PalateError: it is not as long as the listing said.
        """
        to.parent.mkdir(parents=True, exist_ok=True)
        with self._explained("read"):
            self._files.get_file(self._at(name), str(to))
        if entry.size >= 0 and to.stat().st_size != entry.size:
            raise PalateError(
                f"{self.shown}: {name or 'it'} has {to.stat().st_size:,} bytes in place of {entry.size:,}", "Try again."
            )

    def put(self, path: Path, name: str) -> None:
        """Send one file."""
        at = self._at(name)
        with self._explained("written"):
            self._make_folder_of(at)
            self._files.put_file(str(path), at)

    def read_mark(self) -> str | None:
        """Who is sending to this folder, or has been interrupted; None: nobody."""
        with self._explained("read"):
            try:
                return bytes(self._files.cat_file(self._at(UNFINISHED))).decode("utf-8", "replace")
            except FileNotFoundError:
                return None

    def write(self, name: str, content: bytes) -> None:
        """Make a small file."""
        at = self._at(name)
        with self._explained("written"):
            self._make_folder_of(at)
            self._files.pipe_file(at, content)

    def remove(self, name: str) -> None:
        """Remove one file, if it is there."""
        with self._explained("written"), suppress(FileNotFoundError):
            self._files.rm_file(self._at(name))

    def check_writable(self) -> None:
        """Write a file of no content and remove it: a mistake should be found before the work, not after it.

        Raises:
            PalateError: no such bucket, no access, a place that can only be read ...
        """
        if self.scheme in _READ_ONLY:
            raise PalateError(f"{self.shown}: {self.scheme}:// is for reading alone", _READ_ONLY[self.scheme])
        with self._explained("written"):
            beside = self.scheme not in NAMES_ONLY and not self._files.isdir(self._path)
        folder = self._path.rpartition("/")[0] if beside else self._path
        at = f"{folder}/_WRITABLE-{uuid4().hex[:8]}"
        with self._explained("written"):
            self._make_folder_of(at)
            self._files.pipe_file(at, b"")
            self._files.rm_file(at)

    def each(self, do: Callable[[str], None], names: Iterable[str]) -> None:
        """Call a function with every name, several at once; the first error ends it."""
        stopped = threading.Event()

        def unless_stopped(name: str) -> None:
            if not stopped.is_set():
                do(name)

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            try:
                list(pool.map(unless_stopped, names))
            except BaseException:
                stopped.set()
                raise

    def _at(self, name: str) -> str:
        return f"{self._path}/{name}" if name else self._path

    def _make_folder_of(self, at: str) -> None:
        if self.scheme not in NAMES_ONLY:
            self._files.makedirs(at.rpartition("/")[0], exist_ok=True)

    def _check_name(self, name: str) -> None:
        """Refuse what would be written outside of the copy's folder, on any system."""
        parts, windows = name.split("/"), PureWindowsPath(name)
        plain = all(part not in ("", ".", "..") for part in parts) and "\0" not in name and "\\" not in name
        if not plain or windows.drive or windows.root:
            raise PalateError(f"{self.shown} holds {name!r}, which is no name of a file", "Remove or rename it.")

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except PalateError:
            raise
        except Exception as error:  # each file system has errors of its own
            raise self._problem(error, what) from None

    def _problem(self, error: Exception, what: str) -> PalateError:
        remedy = "Check the address and your access."
        if isinstance(error, FileNotFoundError):
            return PalateError(f"{self.shown} cannot be {what}: there is no such bucket or folder", remedy)
        if "credentials" in str(error).lower():
            remedy = "Give them as the store's own tools take them, such as AWS_ACCESS_KEY_ID or ~/.aws/credentials."
        return PalateError(f"{self.shown} cannot be {what} ({without_secrets(one_line(error))})", remedy)


def _entry(info: Mapping[str, Any]) -> Entry:
    size = info.get("size")
    tag = next((str(info[key]) for key in _TAGS if info.get(key) is not None), "")
    return Entry(-1 if size is None else int(size), tag)
