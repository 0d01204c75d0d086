"""Folders of pictures that are named after the items."""

from __future__ import annotations

import os
import re
from pathlib import Path

from palate.errors import PalateError

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")
_THREE_DIGITS = re.compile(r"^\d{3}$")


def find_pictures(folder: Path, prefix: str = "", prefixes: bool = False) -> dict[str, str]:
    """Item id -> file name, for every picture ``<item id>.jpg`` (or .png, .webp ...) directly in ``folder``.

    Args:
        prefix: put before the file name, e.g. ``"posters/"`` where the root is the folder's parent.
        prefixes: whether pictures are also in sub-folders named by the first three digits of the id
            (``011/0111565001.jpg``).
    """
    names: dict[str, str] = {}
    folders: list[str] = []
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            stem, ending = os.path.splitext(entry.name)  # noqa: PTH122 - a Path each is slow for a million pictures
            if ending.lower() in ENDINGS:
                names.setdefault(stem, f"{prefix}{entry.name}")
            elif prefixes and _THREE_DIGITS.match(entry.name) and entry.is_dir():
                folders.append(entry.name)
    for name in folders:
        names = find_pictures(folder / name, f"{prefix}{name}/") | names
    return names


def pictures_of(source: Path, folder: Path | None, *usual: str, prefixes: bool = False) -> tuple[dict[str, str], Path]:
    """The pictures in the folder that the user gave, or else in the first usual folder inside ``source``.

    Args:
        prefixes: as for :func:`find_pictures`.

    Returns:
        Item id -> path relative to the root, and the root.
    """
    if folder is not None:
        if not folder.is_dir():
            raise PalateError(f"--images {folder} is not a folder", "Give the folder that holds the pictures.")
        found = find_pictures(folder, prefixes=prefixes)
        if not found:
            raise PalateError(f"--images {folder} holds no pictures", f"Name them ITEM_ID{ENDINGS[0]}.")
        return found, folder
    for name in usual:
        if (source / name).is_dir():
            return find_pictures(source / name, f"{name}/", prefixes), source
    return {}, source
