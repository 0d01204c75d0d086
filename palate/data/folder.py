"""What lies in a dataset's folder, and which folders a new dataset may replace."""

from __future__ import annotations

from pathlib import Path

from palate.errors import PalateError
from palate.storage.files import read_json
from palate.storage.leftovers import is_temporary, sweep

FILES = ("manifest.json", "interactions.parquet", "users.parquet", "items.parquet")
# Only of a dataset that was prepared with --disliked-at-most. It belongs to its interactions, so it is never carried.
DISLIKES = "dislikes.parquet"
# Items that the filters left out. Not of datasets where there are none.
DROPPED = "dropped.parquet"
# What others have put beside the dataset: it takes hours to make again, or cannot be made again.
IMAGES = "images"
CARRIED = ("features", IMAGES, "summaries")
# Made again where it is used, so it may go.
DERIVED = ("neighbours",)
_LITTER = (".DS_Store", "Thumbs.db", "desktop.ini")


def check_replaceable(folder: Path) -> None:
    """Refuse to replace a folder unless it is empty, or a dataset with nothing else in it.

    Raises:
        PalateError: the folder is not (wholly) a dataset of Palate, or holds other things, which would be lost.
    """
    sweep(folder.parent)
    if not folder.exists():
        return
    if not folder.is_dir():
        raise PalateError(f"{folder} is a file, so it is not replaced", "Choose another folder.")
    names = sorted(path.name for path in folder.iterdir())
    if not names:
        return
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing or not _is_ours(folder / "manifest.json"):
        why = f"{missing[0]} is missing" if missing else "its manifest.json is not Palate's"
        raise PalateError(
            f"{folder} is not a dataset ({why}), so it is not replaced", "Choose another folder, or remove it yourself."
        )
    others = [
        name
        for name in names
        if name not in (*FILES, DISLIKES, DROPPED, *CARRIED, *DERIVED, *_LITTER) and not is_temporary(name)
    ]
    if others:
        raise PalateError(
            f"replacing the dataset {folder} would delete {', '.join(others[:5])}{' ...' if others[5:] else ''}",
            "Move that elsewhere first, or choose another folder.",
        )


def carried(folder: Path) -> list[str]:
    """Names of what a dataset that replaces the one in ``folder`` takes over."""
    return [name for name in CARRIED if (folder / name).is_dir()]


def _is_ours(path: Path) -> bool:
    try:
        manifest = read_json(path)
    except PalateError:
        return False
    return (
        isinstance(manifest, dict)
        and isinstance(manifest.get("format"), int)
        and isinstance(manifest.get("fingerprint"), str)
    )
