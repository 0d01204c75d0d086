"""Any Parquet or delimited text file with a column for the user and one for the item."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from palate.data.readers.base import ReaderOptions, Source, TimeUnit
from palate.data.readers.find import uncompressed
from palate.data.readers.pictures import pictures_of
from palate.data.readers.shape import explain_cell, pick_columns, shape_catalogue, shape_interactions
from palate.data.readers.text import Delimited, columns_of, open_text, scan_delimited, unreadable
from palate.data.readers.times import unused_times
from palate.errors import PalateError

_TEXT = (".csv", ".tsv", ".txt")
_SEPARATORS = ",;\t|"
_ROW = "__row"


class Table:
    """One file, or a folder of files of the same kind that are read one after another by name."""

    takes: ClassVar[frozenset[str]] = frozenset({"columns", "catalogue", "item_columns", "time_unit", "time_format"})

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
            _refuse_more(pick_columns(_data_columns(frame, path), options.columns, str(path)), columns, path, files[0])
        shaped = [_shape(frame, columns, path, options.time_format) for frame, path in zip(frames, files, strict=True)]
        units = [options.time_unit if unit == "auto" else unit for _, unit in shaped]
        for path, (_, unit) in zip(files, shaped, strict=True):
            if (unit == "auto") != (shaped[0][1] == "auto"):
                raise PalateError(
                    f"{path} and {files[0].name}: one has numbers as times and the other has dates", "Make them alike."
                )
        catalogue = None
        home = (options.catalogue or files[0]).parent
        if options.catalogue is not None:
            catalogue = _read_catalogue(options.catalogue, options.item_columns)
        elif options.item_columns:
            raise PalateError("--item-columns is given without --catalogue", "Name the file: --catalogue FILE.")
        images: dict[str, str] = {}
        if catalogue is not None and "image" in catalogue.columns:
            # The catalogue says where the pictures are: relative to --images, or to its own folder.
            root = options.images or home
            if not root.is_dir():
                raise PalateError(f"--images {root} is not a folder", "Give the folder that holds the pictures.")
        else:
            images, root = pictures_of(home, options.images, "images")
        return Source(
            interactions=[frame for frame, _ in shaped],
            files=[*files, *([options.catalogue] if options.catalogue else [])],
            catalogue=catalogue,
            images=images,
            root=root,
            time_unit=units,
            explain=lambda row: _explain(row, files, columns, options.time_format),
            locate=lambda row: _locate(row, files)[1],
            unused_times=unused_times({k: v for frame in frames for k, v in frame.collect_schema().items()}, columns),
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


def _refuse_more(found: Mapping[str, str], columns: Mapping[str, str], path: Path, first: Path) -> None:
    """Refuse a later file with times or ratings, where the first file has none: they would be dropped."""
    for ours, theirs in found.items():
        if ours not in columns:
            raise PalateError(
                f"{path} has a column '{theirs}' for the {ours}, and {first.name} has none",
                "Add the column to every file, or remove it from all.",
            )


def _shape(
    frame: pl.LazyFrame, columns: Mapping[str, str], path: Path, time_format: str | None
) -> tuple[pl.LazyFrame, TimeUnit]:
    try:
        return shape_interactions(frame, columns, str(path), time_format)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise _explain(None, [path], columns) or unreadable(path, error) from None


def _explain(
    row: int | None, files: list[Path], columns: Mapping[str, str], time_format: str | None = None
) -> PalateError | None:
    """Say what is wrong in a row of all files."""
    if row is None:
        texts = [_open(path) for path in files if not uncompressed(path.name).lower().endswith(".parquet")]
        return next((told for text in texts if (told := text.explain(None, columns))), None)
    cells, at = _locate(row, files)
    return explain_cell(cells, columns, at, time_format)


def _locate(row: int, files: list[Path]) -> tuple[dict[str, Any], str]:
    """The cells of a row of all files, and its file and row for messages."""
    for path in files:
        frame = _scan(path)
        length = int(frame.select(pl.len()).collect().item())
        if row < length:
            cells = frame.slice(row, 1).collect().to_dicts()[0]
            return cells, f"{path}, row {cells[_ROW]}"
        row -= length
    raise PalateError(f"{files[0]} changed while it was read", "Run the command again.")


def _read_catalogue(path: Path, columns: Mapping[str, str]) -> pl.DataFrame:
    if not path.is_file():
        raise PalateError(f"--catalogue {path} is not a file", "Give a Parquet or CSV file with a row an item.")
    name = uncompressed(path.name).lower()
    try:
        if name.endswith(".parquet"):
            frame = pl.read_parquet(path)
        elif name.endswith(_TEXT):
            frame = _read_text_catalogue(path, columns)
        else:
            raise PalateError(
                f"--catalogue {path} is neither Parquet nor CSV nor TSV", f"Expected .parquet or {_TEXT}."
            )
    except (OSError, pl.exceptions.PolarsError) as error:
        raise unreadable(path, error) from None
    return shape_catalogue(frame, columns, str(path))


def _read_text_catalogue(path: Path, columns: Mapping[str, str]) -> pl.DataFrame:
    """Ids, titles and paths stay text (an id keeps its leading zeros); other columns may turn out to be numbers."""
    separator = _separator(path)
    there = scan_delimited(path, separator).columns
    fixed = {"item_id", "item", "itemId", "title", "image", *(columns.get(n, n) for n in ("item_id", "title", "image"))}
    overrides = dict.fromkeys((name for name in there if name in fixed), pl.String)
    return pl.read_csv(path, separator=separator, schema_overrides=overrides, infer_schema_length=None)
