"""Addresses: what a URL is, and how one is shown that holds a password."""

from __future__ import annotations

import re
from pathlib import Path

from palate.errors import PalateError

_URL = re.compile(r"[a-z][a-z0-9+.-]*://")
# To a web server a name alone may be a token.
_PASSWORD = re.compile(r"(?<=://)[^/@\s:]*:[^/@\s]*@|(?<=https://)[^/@\s]*@|(?<=http://)[^/@\s]*@")
# A signed address of a web server: what follows the question mark opens the door.
_QUERY = re.compile(r"(https?://[^\s?]*)\?[^\s,]*")
# File systems of fsspec that wrap another one, or hold what they show in the address itself.
_WRAPPERS = {
    *("async_wrapper", "asyncwrapper", "blockcache", "cached", "dask", "data", "dir", "filecache", "generic"),
    *("libarchive", "reference", "simplecache", "tar", "zip"),
}


def is_url(path: object) -> bool:
    """Whether it names a place that is reached through a file system of fsspec.

    >>> is_url("s3://bucket/recs"), is_url("recs.parquet"), is_url(r"C:\\\\recs.parquet"), is_url(None)
    (True, False, False, False)
    """
    return isinstance(path, str | Path) and _URL.match(str(path)) is not None


def without_secrets(text: str) -> str:
    """A text whose URLs have no password and no signature, for people, logs and artefacts.

    >>> without_secrets("sftp://ann:secret@host/shop and https://host/log.csv?Signature=x")
    'sftp://host/shop and https://host/log.csv'
    """
    return _QUERY.sub(r"\1", without_passwords(text))


def without_passwords(text: str) -> str:
    """A text whose URLs have no password; other addresses in it stay as they are."""
    return _PASSWORD.sub("", text)


def checked_url(url: str) -> str:
    """The address without slashes at its end.

    Raises:
        PalateError: it leads through ``..``, or through a file system that wraps another.
    """
    scheme, _, path = url.partition("://")
    shown = without_secrets(url)
    if "::" in url or scheme in _WRAPPERS:
        raise PalateError(f"{shown}: chained addresses are not read", "Name the file or folder itself.")
    path = path.rstrip("/")
    if not path:
        raise PalateError(f"{shown} names no place", "Write the bucket and the path: s3://bucket/data/shop.")
    if any(part in (".", "..") for part in re.split(r"[/\\]", path)):
        raise PalateError(f"{shown}: '.' and '..' are no names in a store", "Write the whole path.")
    return f"{scheme}://{path}"


def server_of(url: str) -> str:
    """The scheme and the host of an address.

    >>> server_of("sftp://ann@Host:22/shop"), server_of("https://host?v=1")
    ('sftp://host:22', 'https://host')
    """
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{re.split('[/?#]', rest)[0].rpartition('@')[2].lower()}"


def name_of(url: str) -> str:
    """The last part of an address, under which its copy is known.

    >>> name_of("s3://bucket/data/shop"), name_of("s3://bucket"), name_of("https://host/log.csv?v=1")
    ('shop', 'bucket', 'log.csv')
    """
    return re.sub(r'[<>:"|?*\x00-\x1f]', "_", without_secrets(url).rpartition("/")[2])
