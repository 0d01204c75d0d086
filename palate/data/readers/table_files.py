"""The files of a table: which of a folder are read, and how each is opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from palate.data.readers.base import ReaderOptions
from palate.data.readers.find import uncompressed
from palate.data.readers.lines import open_text
from palate.data.readers.text import Delimited, columns_of, scan_delimited, unreadable
from palate.errors import PalateError
from palate.storage.tables import scan_parquet

TEXT = (".csv", ".tsv", ".txt")
_KINDS = (".parquet", *TEXT)
# Tables too, whose rows would be missed, but none that can be read.
_OTHER = (".pq", ".parq", ".feather", ".arrow", ".ipc", ".orc", ".avro", ".xlsx", ".xls", ".jsonl", ".ndjson")
_PACKED = (".zip", ".bz2", ".xz", ".zst", ".lz4", ".7z", ".rar", ".z")
_SEPARATORS = ",;\t|"


@dataclass(frozen=True)
class ParquetTable:
    """A Parquet file, with what :class:`~palate.data.readers.text.Delimited` says of its rows."""

    path: Path
    frame: pl.LazyFrame

    @property
    def columns(self) -> list[str]:
        return columns_of(self.frame, self.path)

    def cells(self, row: int) -> dict[str, Any]:
        """The cells of a row (from 0)."""
        return self.frame.slice(row, 1).collect().to_dicts()[0]

    def at(self, row: int) -> str:
        """The file and the row, counted from 1, for messages."""
        return f"{self.path}, row {row + 1}"


def find_tables(source: Path, catalogue: Path | None) -> list[Path]:
    """The file, or all files of a folder that hold the log, Parquet and text, by name.

    Raises:
        PalateError: none is there, or one that holds a table of a kind that cannot be read.
    """
    if source.is_file():
        return [source]
    there = sorted(path for path in source.iterdir() if path.is_file() and not path.name.startswith("."))
    if catalogue is not None:
        there = [path for path in there if path.resolve() != catalogue.resolve()]
    files = [path for path in there if uncompressed(path.name).lower().endswith(_KINDS)]
    if not files:
        raise PalateError(f"{source} has no .parquet, .csv or .tsv file", "Give the folder or the file of the log.")
    for path in there:
        if _is_other(path.name.lower()):
            raise PalateError(
                f"{path} cannot be read, and {files[0].name} beside it can: its rows would be missing",
                "Unpack or convert it to Parquet or CSV, or keep it elsewhere.",
            )
    return files


def _is_other(name: str) -> bool:
    for ending in _PACKED:
        if name.endswith(ending):
            return name.removesuffix(ending).endswith((*_KINDS, *_OTHER))
    return uncompressed(name).endswith(_OTHER)


def open_table(path: Path, options: ReaderOptions) -> Delimited | ParquetTable:
    """Open a file without reading it."""
    name = uncompressed(path.name).lower()
    if name.endswith(".parquet"):
        return ParquetTable(path, scan_parquet(path))
    if not name.endswith(TEXT):
        raise PalateError(f"{path} is neither Parquet nor CSV nor TSV by its ending", f"Expected .parquet or {TEXT}.")
    return open_delimited(path, options.quote, header=not options.no_header)


def open_delimited(path: Path, quote: str, header: bool = True) -> Delimited:
    """Open a text file, split by what its first line has most of; by commas where it has none (a single column).

    One whose name ends in ``.tsv`` is split by tabs if there are any: a column's name may have commas.
    """
    try:
        with open_text(path) as file:
            first = next((line for line in file if line.strip()), "")
    except (OSError, EOFError) as error:  # gzip raises both for a damaged file
        raise unreadable(path, error) from None
    tabs = "\t" in first and uncompressed(path.name).lower().endswith(".tsv")
    return scan_delimited(path, "\t" if tabs else max(_SEPARATORS, key=first.count), quote=quote, header=header)
