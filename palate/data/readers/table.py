"""Any Parquet or delimited text file with a column for the user and one for the item."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from palate.data.readers.base import ReaderOptions, Source, TimeUnit
from palate.data.readers.cells import typed_columns
from palate.data.readers.find import uncompressed
from palate.data.readers.pictures import pictures_of
from palate.data.readers.shape import explain_cell, pick_columns, shape_catalogue, shape_interactions
from palate.data.readers.text import Delimited, columns_of, open_text, scan_delimited, unreadable
from palate.data.unpacked import holds_pictures, parquet_column, unpack
from palate.errors import PalateError

_TEXT = (".csv", ".tsv", ".txt")
_SEPARATORS = ",;\t|"
_ROW = "__row"


class Table:
    """One file, or a folder of files of the same kind that are read one after another by name."""

    takes: ClassVar[frozenset[str]] = frozenset({"columns", "catalogue", "item_columns", "time_unit"})

    def read(self, source: Path, options: ReaderOptions) -> Source:
        files = _files(source, options.catalogue)
        frames = [_scan(path) for path in files]
        columns = pick_columns(_data_columns(frames[0], files[0]), options.columns, str(files[0]))
        for frame, path in zip(frames[1:], files[1:], strict=True):
            missing = set(columns.values()) - set(_data_columns(frame, path))
            if missing:
                raise PalateError(
                    f"{path} has no column '{sorted(missing)[0]}', unlike {files[0].name}",
                    "Say --catalogue FILE if it is the catalogue; keep other files elsewhere.",
                )
        shaped = [_shape(frame, columns, path) for frame, path in zip(frames, files, strict=True)]
        units = {unit for _, unit in shaped}
        if len(units) > 1:
            raise PalateError(f"{source}: the files write their times in different ways", "Make them alike.")
        unit = units.pop()
        catalogue, inside = None, None
        report: dict[str, Any] = {}
        home = (options.catalogue or files[0]).parent
        if options.catalogue is not None:
            catalogue, inside, report = _read_catalogue(options.catalogue, options)
        elif options.item_columns:
            raise PalateError("--item-columns is given without --catalogue", "Name the file: --catalogue FILE.")
        images: dict[str, str] = {}
        if inside is not None:
            root = inside
        elif catalogue is not None and "image" in catalogue.columns:
            # The catalogue says where the pictures are: relative to --images, or to its own folder.
            root = options.images or home
            if not root.is_dir():
                raise PalateError(f"--images {root} is not a folder", "Give the folder that holds the pictures.")
        else:
            images, root = pictures_of(home, options.images, "images")
        return Source(
            interactions=pl.concat([frame for frame, _ in shaped], how="vertical_relaxed"),
            files=[*files, *([options.catalogue] if options.catalogue else [])],
            catalogue=catalogue,
            images=images,
            root=root,
            time_unit=options.time_unit if unit == "auto" else unit,
            report=report,
            explain=lambda row: _explain(row, files, columns),
        )


def _files(source: Path, catalogue: Path | None) -> list[Path]:
    if source.is_file():
        return [source]
    there = sorted(path for path in source.iterdir() if path.is_file())
    if catalogue is not None:
        there = [path for path in there if path.resolve() != catalogue.resolve()]
    for kinds in ((".parquet",), _TEXT):
        files = [path for path in there if uncompressed(path.name).lower().endswith(kinds)]
        if files:
            return files
    raise PalateError(f"{source} has no .parquet, .csv or .tsv file", "Give the folder or the file of the log.")


def _scan(path: Path) -> pl.LazyFrame:
    name = uncompressed(path.name).lower()
    if name.endswith(".parquet"):
        return pl.scan_parquet(path, row_index_name=_ROW, row_index_offset=1)
    if not name.endswith(_TEXT):
        raise PalateError(f"{path} is neither Parquet nor CSV nor TSV by its ending", f"Expected .parquet or {_TEXT}.")
    return _open(path).frame


def _open(path: Path) -> Delimited:
    return scan_delimited(path, _separator(path))


def _separator(path: Path) -> str:
    """The separator that the header line has most of; a comma where it has none (a single column)."""
    try:
        with open_text(path) as file:
            header = file.readline()
    except (OSError, EOFError) as error:  # gzip raises both for a damaged file
        raise unreadable(path, error) from None
    return max(_SEPARATORS, key=header.count) if header.strip() else ","


def _data_columns(frame: pl.LazyFrame, path: Path) -> list[str]:
    return [name for name in columns_of(frame, path) if name != _ROW]


def _shape(frame: pl.LazyFrame, columns: Mapping[str, str], path: Path) -> tuple[pl.LazyFrame, TimeUnit]:
    try:
        return shape_interactions(frame, columns, str(path))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise _explain(None, [path], columns) or unreadable(path, error) from None


def _explain(row: int | None, files: list[Path], columns: Mapping[str, str]) -> PalateError | None:
    """Find the file in which the row of all files lies, and say what is wrong there."""
    if row is None:
        texts = [_open(path) for path in files if not uncompressed(path.name).lower().endswith(".parquet")]
        return next((told for text in texts if (told := text.explain(None, columns))), None)
    for path in files:
        frame = _scan(path)
        length = int(frame.select(pl.len()).collect().item())
        if row < length:
            cells = frame.slice(row, 1).collect().to_dicts()[0]
            return explain_cell(cells, columns, f"{path}, row {cells[_ROW]}")
        row -= length
    return PalateError(f"{files[0]} changed while it was read", "Run the command again.")


def _read_catalogue(path: Path, options: ReaderOptions) -> tuple[pl.DataFrame, Path | None, dict[str, Any]]:
    """The catalogue, where its pictures were unpacked to if it holds any, and counts of pictures left out."""
    if not path.is_file():
        raise PalateError(f"--catalogue {path} is not a file", "Give a Parquet or CSV file with a row an item.")
    name = uncompressed(path.name).lower()
    columns, inside = options.item_columns, None
    report: dict[str, Any] = {}
    try:
        if name.endswith(".parquet"):
            frame, inside, report = _read_parquet_catalogue(path, options)
        elif name.endswith(_TEXT):
            frame = _read_text_catalogue(path, columns)
        else:
            raise PalateError(
                f"--catalogue {path} is neither Parquet nor CSV nor TSV", f"Expected .parquet or {_TEXT}."
            )
    except (OSError, pl.exceptions.PolarsError) as error:
        raise unreadable(path, error) from None
    return shape_catalogue(frame, columns, str(path)), inside, report


def _read_parquet_catalogue(path: Path, options: ReaderOptions) -> tuple[pl.DataFrame, Path | None, dict[str, Any]]:
    kinds, image = pl.read_parquet_schema(path), options.item_columns.get("image", "image")
    if image not in kinds or not holds_pictures(kinds[image]):
        return pl.read_parquet(path), None, {}
    if options.images is not None:
        raise PalateError(
            f"--images {options.images} is given, and {path} holds pictures itself", "Leave --images out."
        )
    frame = pl.read_parquet(path, columns=[name for name in kinds if name != image])
    names, folder, report = unpack(parquet_column(path, image))
    return frame.with_columns(names.alias(image)), folder, report


def _read_text_catalogue(path: Path, columns: Mapping[str, str]) -> pl.DataFrame:
    """Ids, titles and paths stay text (an id keeps its leading zeros); other columns of numbers become numbers."""
    separator = _separator(path)
    there = scan_delimited(path, separator).columns
    fixed = {"item_id", "item", "itemId", "title", "image", *(columns.get(n, n) for n in ("item_id", "title", "image"))}
    frame = pl.read_csv(path, separator=separator, infer_schema=False)
    return frame.with_columns(typed_columns(frame, [name for name in there if name in fixed], truth=True))
