"""Vectors of contents that an earlier store of the same encoder holds already, so that only new ones are encoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from palate.errors import PalateError
from palate.features.folders import store_folder
from palate.features.store import Floats, read_store, read_store_json
from palate.storage.files import read_json
from palate.storage.remote import find

# Nights that are looked through for the last one that was encoded.
_GENERATIONS = 60


@dataclass(frozen=True)
class EarlierStore:
    """A store to copy rows from.

    Attributes:
        fingerprint: of the store.
        vectors: ``[items + 1, width]``, memory-mapped.
        row_of: hash of a content -> the row that has its vector.
    """

    folder: Path
    fingerprint: str
    vectors: Floats
    row_of: dict[str, int]


def find_earlier(
    dataset_path: Path | str, name: str, reuse: Path | str | None, fingerprint: str, width: int, dtype: np.dtype[Any]
) -> EarlierStore | None:
    """The store whose rows may be copied: that of ``reuse``, or else the one that is replaced, or of the nearest
    dataset that this one was appended to.

    Args:
        name: of the store, the same in all datasets.
        fingerprint, width, dtype: of the encoder and of what it writes; a store of others is of no use.

    Raises:
        PalateError: ``reuse`` has no store of that name that can be used.
    """
    folders = [dataset_path, *ancestors(dataset_path)] if reuse is None else [reuse]
    for dataset in folders:
        folder = store_folder(dataset, name)
        try:
            found = _open(folder, fingerprint, width, dtype)
        except PalateError as error:
            if reuse is not None:
                raise PalateError(f"--reuse {reuse}: {error.message}", "Leave the option out, or correct it.") from None
            continue
        if found is not None:
            return found
    if reuse is not None:
        raise PalateError(
            f"--reuse {reuse}: {store_folder(reuse, name)} was made by another encoder, or in another precision",
            "Leave the option out, or use the encoder of that store.",
        )
    return None


def _open(folder: Path, fingerprint: str, width: int, dtype: np.dtype[Any]) -> EarlierStore | None:
    info = read_store_json(folder)
    same = info["encoder"]["fingerprint"] == fingerprint and info["width"] == width and info["dtype"] == str(dtype)
    if info.get("layout", "dense") != "dense" or not same:
        return None
    vectors, present, table = read_store(folder, info)
    keys = table["content"].to_list()
    rows = np.flatnonzero(present[1:]).tolist()
    return EarlierStore(folder, str(info["fingerprint"]), vectors, {keys[row]: row + 1 for row in rows if keys[row]})


def ancestors(dataset: Path | str) -> Iterator[Path]:
    """Folders of the datasets that a dataset was appended to, the nearest first, as far as they are there."""
    folder, seen = Path(dataset), {Path(dataset).resolve()}
    for _ in range(_GENERATIONS):
        try:
            path = read_json(folder / "manifest.json")["parent"]["path"]
        except (PalateError, KeyError, TypeError):
            return
        found = find(path) if isinstance(path, str) else None
        if found is None or not found.is_dir() or found.resolve() in seen:
            return
        folder = found
        seen.add(folder.resolve())
        yield folder


def is_outdated(folder: Path, command: str, fingerprint: str, load: Callable[[], object]) -> bool:
    """Whether a store of this very encoder and command no longer fits the catalogue: it may be replaced unasked.

    Args:
        load: opens the store for the catalogue, or raises PalateError.
    """
    try:
        encoder = read_store_json(folder)["encoder"]
    except PalateError:
        return False
    if (encoder.get("command"), encoder["fingerprint"]) != (command, fingerprint):
        return False
    try:
        load()
    except PalateError:
        return True
    return False


def stores_of(dataset: Path | str) -> Sequence[Path]:
    """The stores of a dataset, or else of the nearest dataset that it was appended to and that has some."""
    for folder in (Path(dataset), *ancestors(dataset)):
        found = sorted(path.parent for path in (folder / "features").glob("*/store.json"))
        if found:
            return found
    return []
