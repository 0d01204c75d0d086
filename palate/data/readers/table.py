"""Any Parquet or delimited text file with a column for the user and one for the item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from palate.data.readers.base import ReaderOptions, Source, TimeUnit
from palate.data.readers.cells import typed_columns
from palate.data.readers.find import uncompressed
from palate.data.readers.header import refuse_headerless
from palate.data.readers.pictures import find_pictures, pictures_of
from palate.data.readers.quotes import AUTO
from palate.data.readers.shape import explain_cell, pick_columns, shape_catalogue, shape_interactions
from palate.data.readers.table_files import TEXT, ParquetTable, find_tables, open_delimited, open_table
from palate.data.readers.text import Delimited, unreadable
from palate.data.readers.times import unused_times
from palate.data.unpacked import holds_pictures, parquet_column, unpack
from palate.errors import PalateError
from palate.storage.remote import local, url_of
from palate.storage.tables import read_csv, read_parquet, scan_parquet


class RawTable:
    """One file, or a folder of files that are read one after another by name."""

    takes: ClassVar[frozenset[str]] = frozenset(
        {"columns", "catalogue", "item_columns", "time_unit", "time_format", "quote", "no_header"}
    )

    def read(self, source: Path, options: ReaderOptions) -> Source:
        files = find_tables(source, options.catalogue)
        tables = [open_table(path, options) for path in files]
        columns = pick_columns(tables[0].columns, options.columns, str(files[0]))
        for table in tables[1:]:
            missing = set(columns.values()) - set(table.columns)
            if missing:
                raise PalateError(
                    f"{table.path} has no column '{sorted(missing)[0]}', unlike {files[0].name}",
                    "Say --catalogue FILE if it is the catalogue; keep other files elsewhere.",
                )
            found = pick_columns(table.columns, options.columns, str(table.path))
            _refuse_more(found, columns, table.path, files[0])
        for table in tables:
            if isinstance(table, Delimited) and not options.no_header:
                refuse_headerless(table, columns)
        # A part of a log may be a header line alone; it says nothing of how times are written.
        full = [table for table in tables if _has_rows(table)] or tables
        empty = [path for path in files if path not in [table.path for table in full]]
        shaped = [_shape(table, columns, options.time_format) for table in full]
        units = [options.time_unit if unit == "auto" else unit for _, unit in shaped]
        for table, (_, unit) in zip(full, shaped, strict=True):
            if (unit == "auto") != (shaped[0][1] == "auto"):
                raise PalateError(
                    f"{table.path} and {full[0].path.name}: one has numbers as times and the other has dates",
                    "Make them alike.",
                )
        report: dict[str, Any] = {}
        if empty:
            report["files_without_rows"] = [path.name for path in empty]
        texts = [table.path.name for table in full if isinstance(table, Delimited) and table.quotes_are_text]
        if texts and options.quote == AUTO:
            report["quotes_read_as_text"] = texts
        catalogue, inside = None, None
        home = (options.catalogue or files[0]).parent
        if options.catalogue is not None:
            catalogue, inside, left_out = _read_catalogue(options.catalogue, options)
            report |= left_out
        elif options.item_columns:
            raise PalateError("--item-columns is given without --catalogue", "Name the file: --catalogue FILE.")
        images: dict[str, str] = {}
        if inside is not None:
            root = inside
        elif catalogue is not None and "image" in catalogue.columns:
            # The catalogue says where the pictures are: relative to --images, or to its own folder.
            above = url_of(home) if any(catalogue["image"]) else None  # of a catalogue that was itself fetched
            root = options.images or (home if above is None else local(above))
            if not root.is_dir():
                raise PalateError(f"--images {root} is not a folder", "Give the folder that holds the pictures.")
            if options.images is not None:  # for items whose cell is empty or an address of the web
                images = find_pictures(root)
        else:
            images, root = pictures_of(home, options.images, "images")
        return Source(
            interactions=[frame for frame, _ in shaped],
            files=[*(table.path for table in full), *empty, *([options.catalogue] if options.catalogue else [])],
            catalogue=catalogue,
            images=images,
            root=root,
            time_unit=units,
            report=report,
            explain=lambda row: _explain(row, full, columns, options.time_format),
            locate=lambda row: _at(row, full),
            unused_times=unused_times(
                {name: kind for table in tables for name, kind in table.frame.collect_schema().items()},
                columns,
                options.columns,
            ),
        )


def _refuse_more(found: Mapping[str, str], columns: Mapping[str, str], path: Path, first: Path) -> None:
    """Refuse a later file with times or ratings, where the first file has none: they would be dropped."""
    for ours, theirs in found.items():
        if ours not in columns:
            raise PalateError(
                f"{path} has a column '{theirs}' for the {ours}, and {first.name} has none",
                "Add the column to every file, or remove it from all.",
            )


def _shape(
    table: Delimited | ParquetTable, columns: Mapping[str, str], time_format: str | None
) -> tuple[pl.LazyFrame, TimeUnit]:
    try:
        return shape_interactions(table.frame, columns, str(table.path), time_format)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise _explain(None, [table], columns) or unreadable(table.path, error) from None


def _has_rows(table: Delimited | ParquetTable) -> bool:
    try:
        return not table.frame.head(1).collect().is_empty()
    except (OSError, pl.exceptions.PolarsError):
        return True  # what is wrong is said when it is read


def _explain(
    row: int | None,
    tables: Sequence[Delimited | ParquetTable],
    columns: Mapping[str, str],
    time_format: str | None = None,
) -> PalateError | None:
    """Say what is wrong in a row of all files."""
    if row is None:
        texts = [table for table in tables if isinstance(table, Delimited)]
        return next((explained for text in texts if (explained := text.explain(None, columns))), None)
    table, row = _locate(row, tables)
    return explain_cell(table.cells(row), columns, table.at(row), time_format)


def _locate(row: int, tables: Sequence[Delimited | ParquetTable]) -> tuple[Delimited | ParquetTable, int]:
    """The file that a row of all files is in, and its place there (from 0)."""
    for table in tables:
        length = int(table.frame.select(pl.len()).collect().item())
        if row < length:
            return table, row
        row -= length
    raise PalateError(f"{tables[0].path} changed while it was read", "Run the command again.")


def _at(row: int, tables: Sequence[Delimited | ParquetTable]) -> str:
    table, row = _locate(row, tables)
    return table.at(row)


def _read_catalogue(path: Path, options: ReaderOptions) -> tuple[pl.DataFrame, Path | None, dict[str, Any]]:
    """The catalogue, where its pictures were unpacked to if it holds any, and counts of pictures left out."""
    if not path.is_file():
        raise PalateError(f"--catalogue {path} is not a file", "Give a Parquet or CSV file with one row per item.")
    name = uncompressed(path.name).lower()
    columns, inside = options.item_columns, None
    report: dict[str, Any] = {}
    try:
        if name.endswith(".parquet"):
            frame, inside, report = _read_parquet_catalogue(path, options)
        elif name.endswith(TEXT):
            frame = _read_text_catalogue(open_delimited(path, options.quote), columns)
        else:
            raise PalateError(f"--catalogue {path} is neither Parquet nor CSV nor TSV", f"Expected .parquet or {TEXT}.")
    except (OSError, pl.exceptions.PolarsError) as error:
        raise unreadable(path, error) from None
    return shape_catalogue(frame, columns, str(path)), inside, report


def _read_parquet_catalogue(path: Path, options: ReaderOptions) -> tuple[pl.DataFrame, Path | None, dict[str, Any]]:
    kinds, image = scan_parquet(path).collect_schema(), options.item_columns.get("image", "image")
    if image not in kinds or not holds_pictures(kinds[image]):
        return read_parquet(path), None, {}
    if options.images is not None:
        raise PalateError(
            f"--images {options.images} is given, and {path} holds pictures itself", "Leave --images out."
        )
    frame = read_parquet(path, columns=[name for name in kinds if name != image])
    names, folder, report = unpack(parquet_column(path, image))
    return frame.with_columns(names.alias(image)), folder, report


def _read_text_catalogue(table: Delimited, columns: Mapping[str, str]) -> pl.DataFrame:
    """Ids, titles and paths stay text (an id keeps its leading zeros); other columns of numbers become numbers."""
    fixed = {"item_id", "item", "itemId", "title", "image", *(columns.get(n, n) for n in ("item_id", "title", "image"))}
    try:
        frame = read_csv(table.path, separator=table.separator, quote_char=table.quote, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        raise table.explain(None, {}) or unreadable(table.path, error) from None
    return frame.with_columns(typed_columns(frame, [name for name in table.columns if name in fixed], truth=True))
