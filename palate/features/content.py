"""What is encoded: an item's text or picture, named by a hash so that a change of it is noticed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import polars as pl

from palate.data.catalogue import Catalogue
from palate.data.images import MAX_BYTES, inside
from palate.engines.base import Engine
from palate.engines.files import read_by
from palate.engines.local import LOCAL
from palate.errors import PalateError
from palate.storage.files import file_digest

Modality = Literal["text", "image"]
MODALITIES: tuple[Modality, ...] = ("text", "image")
SCHEMA = {"item_id": pl.String, "content": pl.String, "path": pl.String, "size": pl.Int64, "mtime_ns": pl.Int64}


@dataclass(frozen=True)
class Contents:
    """The contents of all items of a catalogue, in index order.

    Attributes:
        keys: a hash an item; equal contents have equal keys, and an item without content has "".
        reasons: item row (0-based) -> why it has no content.
        table: what a store keeps to notice a change later (see ``SCHEMA``), one row per item.
    """

    keys: list[str]
    values: list[str | Path | None]
    reasons: dict[int, str]
    table: pl.DataFrame


def text_fields(catalogue: Catalogue, fields: Sequence[str] | None) -> list[str]:
    """The columns that make an item's text, resolved so that they can be recorded."""
    return list(fields) if fields is not None else ["title", *catalogue.text_fields]


def texts_of(catalogue: Catalogue, fields: Sequence[str], without: str | None = None) -> list[str | None]:
    """One text an item, with everything that matches the regular expression ``without`` taken out."""
    texts = catalogue.texts(fields)
    if without is None:
        return texts
    try:
        pattern = re.compile(without)
    except re.error as error:
        raise PalateError(f"--without '{without}' is not a regular expression ({error})", "Correct it.") from None
    return [" ".join(pattern.sub(" ", text).split()) or None if text else None for text in texts]


def text_contents(catalogue: Catalogue, fields: Sequence[str], without: str | None = None) -> Contents:
    """Texts with their keys."""
    texts = texts_of(catalogue, fields, without)
    keys = [_text_key(text) for text in texts]
    reasons = {row: "no text" for row, text in enumerate(texts) if text is None}
    return Contents(keys, list(texts), reasons, _table(catalogue, keys))


def image_contents(catalogue: Catalogue, engine: Engine = LOCAL) -> Contents:
    """Paths of pictures with the hash of their bytes; what cannot be read has a reason instead.

    A path that leads out of the catalogue's image folder (``../``, an absolute path elsewhere, a link) is never opened.

    Args:
        engine: whose workers read the files.
    """
    names = catalogue.frame["image"].to_list()
    if not engine.in_process and not any(names):
        engine = LOCAL
    found = read_by(engine, partial(_read_picture, catalogue.root), names, catalogue.root, "Reading pictures")
    keys = [one.key for one in found]
    reasons = {row: one.problem for row, one in enumerate(found) if one.problem}
    values = [catalogue.root / name if key else None for name, key in zip(names, keys, strict=True)]
    table = _table(catalogue, keys, [one.size for one in found], [one.mtime_ns for one in found])
    return Contents(keys, values, reasons, table)


class _Read(NamedTuple):
    """What reading one picture's file gave; the key is empty where there is a problem."""

    key: str = ""
    size: int | None = None
    mtime_ns: int | None = None
    problem: str | None = None


def _read_picture(root: Path, name: str | None) -> _Read:
    problem = _problem(root, name)
    if problem is not None or name is None:
        return _Read(problem=problem)
    path = root / name
    try:
        status = path.stat()
        return _Read(file_digest(path), status.st_size, status.st_mtime_ns)
    except OSError as error:
        return _Read(problem=f"the file cannot be read ({error.strerror})")


def _problem(root: Path, name: str | None) -> str | None:
    """Why a picture's file cannot be encoded, or None."""
    if not name:
        return "no picture in the catalogue"
    try:
        path = inside(root, name)
        if not path.exists():
            return "the file does not exist"
        if not path.is_file():
            return "not a regular file"
        return "larger than a picture may be" if path.stat().st_size > MAX_BYTES else None
    except PalateError:
        return "the path leads out of the image folder"
    except (OSError, ValueError):
        return "the file cannot be read"


def _table(
    catalogue: Catalogue,
    keys: list[str],
    sizes: Sequence[int | None] | None = None,
    times: Sequence[int | None] | None = None,
) -> pl.DataFrame:
    empty = [None] * len(keys)
    path = catalogue.frame["image"].to_list() if sizes is not None else empty
    columns = {"item_id": catalogue.frame["item_id"].to_list(), "content": keys, "path": path}
    return pl.DataFrame({**columns, "size": sizes or empty, "mtime_ns": times or empty}, schema=SCHEMA)


def _text_key(text: str | None) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16] if text else ""


def first_change(catalogue: Catalogue, spec: dict[str, Any], table: pl.DataFrame) -> str | None:
    """How the catalogue's content differs from what was encoded, or None.

    Args:
        spec: ``{"kind": "text", "fields": [...], "without": ...}``, ``{"kind": "image"}`` or ``{"kind": "ids"}``.
        table: the rows that were stored, aligned to the catalogue's items.

    Pictures are compared by path and size; where only the time of a file has changed, its bytes are hashed again. A
    file that is not at hand is no change: a data set may travel without its pictures once they are encoded.
    """
    if spec["kind"] == "text":
        try:
            texts = texts_of(catalogue, spec["fields"], spec.get("without"))
        except PalateError as error:
            return error.message
        for item, text, key in zip(catalogue.ids[1:], texts, table["content"], strict=True):
            if _text_key(text) != key:
                return f"the text of item '{item}' has changed"
    elif spec["kind"] == "image":
        rows = zip(catalogue.ids[1:], catalogue.frame["image"], table.iter_rows(named=True), strict=True)
        for item, name, row in rows:
            if (name or None) != (row["path"] or None):
                return f"the picture of item '{item}' was '{row['path']}' and is now '{name}'"
            if _problem(catalogue.root, name) is None and _file_changed(catalogue.root / name, row):
                return f"the picture '{name}' of item '{item}' has changed"
    return None


def _file_changed(path: Path, row: dict[str, Any]) -> bool:
    try:
        status = path.stat()
        if status.st_size != row["size"]:
            return True
        touched = status.st_mtime_ns != row["mtime_ns"]
        return touched and file_digest(path) != str(row["content"])
    except OSError:
        return False
