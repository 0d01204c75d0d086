"""Folders of pictures that are named after the items."""

from __future__ import annotations

import os
from pathlib import Path

from palate.errors import PalateError

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")


def find_pictures(folder: Path, prefix: str = "") -> dict[str, str]:
    """Item id -> file name, for every picture ``<item id>.jpg`` (or .png, .webp ...) directly in ``folder``.

    Args:
        prefix: put before the file name, e.g. ``"posters/"`` where the root is the folder's parent.
    """
    names: dict[str, str] = {}
    with os.scandir(folder) as entries:
        for name in sorted(entry.name for entry in entries):
            stem, ending = os.path.splitext(name)  # noqa: PTH122 - a Path each is slow for a million pictures
            if ending.lower() in ENDINGS:
                names.setdefault(stem, f"{prefix}{name}")
    return names


def pictures_of(source: Path, given: Path | None, *usual: str) -> tuple[dict[str, str], Path]:
    """The pictures in the folder that the user gave, or else in the first usual folder inside ``source``.

    Returns:
        Item id -> path relative to the root, and the root.
    """
    if given is not None:
        if not given.is_dir():
            raise PalateError(f"--images {given} is not a folder", "Give the folder that holds the pictures.")
        found = find_pictures(given)
        if not found:
            raise PalateError(f"--images {given} holds no pictures", f"Name them ITEM_ID{ENDINGS[0]}.")
        return found, given
    for name in usual:
        if (source / name).is_dir():
            return find_pictures(source / name, f"{name}/"), source
    return {}, source
