"""The way back: from a copy to its URL."""

from __future__ import annotations

import re
from pathlib import Path

from palate.storage.remote.home import WORK, remote_folder
from palate.storage.remote.urls import name_of, without_passwords


def url_of(path: Path) -> str | None:
    """The URL of a copy, of what is in it, or of what it is in; None for any other path."""
    root = remote_folder().resolve()
    path = path.resolve()
    if not path.is_relative_to(root):
        return None
    home, version, name, *rest = (*path.relative_to(root).parts, "", "", "")
    url = _read(root / home)
    if url is None or not version:
        return None
    if not name:  # where a file's neighbours would be, such as the pictures of a catalogue
        above = url.rpartition("/")[0]
        return None if above.endswith("/") else above
    if name != name_of(url):
        return None
    return "/".join([url, *filter(None, rest)])


def given(text: Path | str) -> str:
    """A path, or a text with paths, in which copies are named by their URLs and URLs have no passwords.

    >>> given("Run: runs/sasrec")
    'Run: runs/sasrec'
    """
    text, root = without_passwords(str(text)), str(remote_folder())
    if root not in text:
        return text
    # A copy that is itself named by a URL stays: so is what could not be sent.
    copy_of = rf"(?<!file://)({re.escape(root)}[/\\]+([0-9a-f]{{16}})[/\\]+(?:[0-9a-f]{{16}}|{WORK}))(?=[/\\])"
    copies = re.findall(copy_of, text)
    for copy, home in set(copies):
        url = _read(Path(root) / home)
        if url is not None:
            text = url.join(re.split(rf"(?<!file://){re.escape(copy)}[/\\]+{re.escape(name_of(url))}", text))
    return text


def _read(home: Path) -> str | None:
    try:
        return (home / "url").read_text("utf-8")
    except OSError:
        return None
