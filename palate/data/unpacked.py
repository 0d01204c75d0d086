"""Pictures inside a table, as image data sets come in Parquet: bytes, or structs of bytes and a path, become files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from palate.data.images import MAX_BYTES
from palate.errors import PalateError

# How files of the formats that are opened begin (WebP: "RIFF", four bytes of length, "WEBP").
_BEGINNINGS = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"GIF8": ".gif", b"BM": ".bmp", b"RIFF": ".webp"}
_ROWS = 256
# Folders of this process; they go when it ends. `Dataset.save` puts the pictures into the dataset before.
_folders: list[TemporaryDirectory[str]] = []


def holds_pictures(kind: pl.DataType) -> bool:
    """Whether a column may hold pictures themselves: bytes, or structs with a field ``bytes``."""
    return kind == pl.Binary or (
        isinstance(kind, pl.Struct) and any(field.name == "bytes" and field.dtype == pl.Binary for field in kind.fields)
    )


def unpack(columns: Iterable[pl.Series]) -> tuple[pl.Series, Path, dict[str, int]]:
    """Write every picture into a file of a new temporary folder. Nothing is decoded: whoever opens the files does that,
    within the bounds of :func:`palate.data.images.open_image`.

    Args:
        columns: parts of one column, see :func:`holds_pictures`.

    Returns:
        File names by row (null: no picture), the folder, and counts of what was left out: ``pictures_unknown`` (no
        JPEG, PNG, WebP, GIF or BMP by their first bytes), ``pictures_too_large``, and ``pictures_without_bytes``:
        structs that only name a file.
    """
    unpacked = TemporaryDirectory(prefix="palate-pictures-")
    _folders.append(unpacked)
    folder = Path(unpacked.name)
    names: list[str | None] = []
    report = {"pictures_unknown": 0, "pictures_too_large": 0, "pictures_without_bytes": 0}
    for column in columns:
        data = column if column.dtype == pl.Binary else column.struct.field("bytes")
        report["pictures_without_bytes"] += _only_named(column)
        for picture in data:
            name = None
            if picture:
                ending = _ending(picture)
                if ending is None:
                    report["pictures_unknown"] += 1
                elif len(picture) > MAX_BYTES:
                    report["pictures_too_large"] += 1
                else:
                    name = f"{len(names) + 1:07}{ending}"
                    _write(folder / name, picture)
            names.append(name)
    return pl.Series(names, dtype=pl.String), folder, {key: count for key, count in report.items() if count}


def parquet_column(path: Path, name: str) -> Iterator[pl.Series]:
    """A column of a Parquet file, some rows at a time: pictures need not fit into memory."""
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_ROWS, columns=[name]):
                frame = pl.from_arrow(pa.Table.from_batches([batch]))
                assert isinstance(frame, pl.DataFrame)
                yield frame[name]
    except pa.ArrowException as error:
        raise PalateError(f"{path}: the column '{name}' cannot be read ({error})", "Check the file.") from None


def is_unpacked(folder: Path | str) -> bool:
    """Whether :func:`unpack` made this folder, which ends with the process."""
    return any(Path(one.name) == folder for one in _folders)


def copy_pictures(names: Iterable[str | None], source: Path, folder: Path) -> None:
    """Put the named files into a new folder; on the same file system that takes no space."""
    folder.mkdir()
    _link_all({name: source / name for name in names if name is not None}, folder)


def gather_pictures(pictures: Mapping[str, Path]) -> Path:
    """Pictures of several folders in a new temporary one, which is treated like that of :func:`unpack`.

    Args:
        pictures: relative path in the new folder -> where the picture is. What is not there is left out.
    """
    gathered = TemporaryDirectory(prefix="palate-pictures-")
    _folders.append(gathered)
    _link_all(pictures, Path(gathered.name))
    return Path(gathered.name)


def _link_all(pictures: Mapping[str, Path], folder: Path) -> None:
    for name, path in pictures.items():
        if not path.is_file():
            continue
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path.resolve(), target)
        except OSError:
            shutil.copyfile(path, target)


def _write(path: Path, picture: bytes) -> None:
    try:
        path.write_bytes(picture)
    except OSError as error:
        raise PalateError(
            f"the pictures cannot be unpacked into {path.parent} ({error.strerror})",
            "Name a folder with more room in the environment variable TMPDIR.",
        ) from None


def _only_named(column: pl.Series) -> int:
    if not isinstance(column.dtype, pl.Struct) or "path" not in (field.name for field in column.dtype.fields):
        return 0
    named = column.struct.field("path").is_not_null() & column.struct.field("bytes").is_null()
    return int(named.sum())


def _ending(picture: bytes) -> str | None:
    found = next((ending for beginning, ending in _BEGINNINGS.items() if picture.startswith(beginning)), None)
    return None if found == ".webp" and picture[8:12] != b"WEBP" else found
