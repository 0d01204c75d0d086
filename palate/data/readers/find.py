"""Finding the one file that is meant, or saying which ones there are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from palate.errors import PalateError


def one_file(source: Path, fits: Callable[[str], bool], expected: str) -> Path:
    """The file ``source`` itself, or the only file in the folder ``source`` whose name fits.

    Raises:
        PalateError: none or several fit.
    """
    if source.is_file():
        return source
    found = sorted(path for path in source.iterdir() if path.is_file() and fits(path.name))
    if not found:
        raise PalateError(f"{source} has no {expected}", "Check the folder and the reader.")
    if len(found) > 1:
        names = ", ".join(path.name for path in found[:5]) + (" ..." if len(found) > 5 else "")
        raise PalateError(f"{source} has several files that could be the {expected}: {names}", "Name one as SOURCE.")
    return found[0]


def uncompressed(name: str) -> str:
    """A file name without ``.gz``."""
    return name[:-3] if name.lower().endswith(".gz") else name
