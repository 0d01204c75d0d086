"""The table of new items: read and checked row by row before anything is computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from palate.bundle.items import BundleItems
from palate.data.catalogue import RESERVED
from palate.data.identity import check_ids, id_text
from palate.data.images import inside, open_image
from palate.data.readers.pictures import find_pictures
from palate.data.readers.quotes import AUTO
from palate.data.readers.shape import rename_columns
from palate.data.readers.table_files import open_delimited
from palate.data.readers.text import unreadable
from palate.data.tidy import tidy
from palate.data.unpacked import holds_pictures, unpack
from palate.errors import PalateError, suggest
from palate.features.fields import FIELDS
from palate.names import quoted_name
from palate.storage.tables import read_parquet

_TEXT = (".csv", ".tsv")
_SHOWN = 5
# Between the values of a field that is a list, in a text table.
SEPARATOR = "|"


@dataclass(frozen=True)
class NewItems:
    """New items in the order of their table.

    Attributes:
        frame: the columns of the bundle's catalogue.
        images: the folder of the pictures, if there are any.
        pictures: row (from 0) and the file of its picture, of those that have one; all of them can be opened.
        rows: the row of the table as an editor shows it, one per item.
        notes: what a person should know.
    """

    frame: pl.DataFrame
    images: Path | None
    pictures: dict[int, Path]
    rows: list[int]
    notes: list[str]


def read_items(
    path: Path,
    items: BundleItems,
    needed: Sequence[str],
    images: Path | None,
    clean_text: bool = False,
    columns: Mapping[str, str] | None = None,
) -> NewItems:
    """Read a table of new items.

    Args:
        path: ``.csv``, ``.tsv`` or ``.parquet``.
        items: of the bundle, whose columns and types the new ones take.
        needed: columns that have to be there beside ``item_id``; their cells may be empty.
        images: folder of the pictures: paths of the column ``image`` are relative to it; without that column they are
            named ``ITEM_ID.jpg`` (or .png, .webp ...). A Parquet table may hold the pictures itself, in ``image``.
        clean_text: take HTML tags and entities out of titles and texts.
        columns: our name -> the table's, where they differ; '' leaves the column out.

    Raises:
        PalateError: naming the rows: no id, an id that is there already, comes twice or may be another, a number that
            is none, a picture that is missing or cannot be opened; naming all columns that are missing.
    """
    table, rows = _read(path)
    table = _named(path, table, columns or {}, needed, items.catalogue.frame.columns)
    notes = []
    if "image" in table.columns and holds_pictures(table.schema["image"]):
        if images is not None:
            raise PalateError(f"--images {images} is given, and {path} holds pictures itself", "Leave --images out.")
        names, images, left = unpack([table["image"]])
        table = table.with_columns(names.alias("image"))
        notes += [f"{reason.replace('_', ' ')}: {count:,} left out" for reason, count in left.items()]
    table, changed = tidy(table, clean_text=clean_text)
    if left_out := changed.pop("columns_left_out", None):
        notes.append(f"columns that hold no text, numbers or lists were left out: {left_out}")
    notes += [f"{name.replace('_', ' ')}: {count}" for name, count in changed.items()]
    lost = [name for name in needed if name not in table.columns]
    if lost:
        raise PalateError(
            f"{path}: the column '{lost[0]}', which the model reads, holds no text, numbers or lists", "Convert it."
        )
    if table.is_empty():
        raise PalateError(f"{path} has no items", "Give one row per item.")
    if images is not None and not images.is_dir():
        raise PalateError(f"--images {images} is not a folder", "Give the folder that holds the pictures.")
    schema = items.catalogue.frame.schema
    extra = [name for name in table.columns if name not in schema]
    notes += [f"the bundle has no field '{name}': it was left out" for name in extra]
    text = table.select(id_text(pl.col("item_id"), table.schema["item_id"], "item_id", str(path)))["item_id"]
    check_ids(text, str(path))
    ids = text.to_list()
    _check_ids(path, rows, ids, items)
    made = {"item_id": pl.Series("item_id", ids, pl.String)}
    for name, kind in schema.items():
        if name == "item_id":
            continue
        column = table[name] if name in table.columns else pl.Series(name, [None] * len(ids), kind)
        made[name] = _typed(path, rows, column.alias(name), kind)
    frame = pl.DataFrame(made).select(list(schema))
    if "image" not in table.columns and images is not None:
        named = find_pictures(images)
        frame = frame.with_columns(pl.Series("image", [named.get(item) for item in ids], pl.String))
        if not any(frame["image"]):
            raise PalateError(f"--images {images} holds no picture of these items", "Name them ITEM_ID.jpg.")
    elif images is None and any(frame["image"]):
        row = next(row for row, name in zip(rows, frame["image"], strict=True) if name)
        raise PalateError(f"{path}, row {row} names a picture", "Give their folder: --images DIR.")
    pictures = _pictures(path, rows, frame["image"].to_list(), images)
    return NewItems(frame, images, pictures, rows, notes)


def _read(path: Path) -> tuple[pl.DataFrame, list[int]]:
    """All columns, as strings but for Parquet, and the number of each row as an editor shows it."""
    if not path.is_file():
        raise PalateError(f"{path} is not a file", "Give a table with one row per item.")
    try:
        if path.suffix.lower() == ".parquet":
            frame = read_parquet(path)
            return frame, list(range(1, len(frame) + 1))
        if path.suffix.lower() not in _TEXT:
            raise PalateError(f"{path} is of no kind that can be read", "Give .csv, .tsv or .parquet.")
        table = open_delimited(path, AUTO)
        try:
            frame = table.numbered.collect()
        except pl.exceptions.PolarsError as error:
            raise table.explain(None, {}) or unreadable(path, error) from None
        return frame.drop(table.index), table.starts(frame[table.index].to_list())
    except (OSError, pl.exceptions.PolarsError) as error:
        raise unreadable(path, error) from None


def _named(
    path: Path, table: pl.DataFrame, columns: Mapping[str, str], needed: Sequence[str], fields: Sequence[str]
) -> pl.DataFrame:
    """The table with the bundle's names of columns; refuses all that are wrong or missing at once."""
    there = table.columns
    names = {ours: theirs for ours, theirs in columns.items() if theirs}
    left_out = [ours for ours, theirs in columns.items() if not theirs]
    wrong = [f"has no column '{theirs}' for '{ours}'" for ours, theirs in names.items() if theirs not in there]
    wrong += [f"has no column '{name}' to leave out" for name in left_out if name not in there]
    unknown = [ours for ours in names if ours not in fields]
    wrong += [f"cannot fill '{ours}', which is no field of the bundle" for ours in unknown]
    present = {*there, *names} - set(left_out)
    missing = [name for name in dict.fromkeys(("item_id", *needed)) if name not in present]
    if missing:
        many = "s" if len(missing) > 1 else ""
        named = ", ".join(f"'{name}'" for name in missing)
        wrong.append(f"lacks the column{many} {named}, which the model reads")
    if wrong:
        remedy = f"It has: {', '.join(map(quoted_name, there))}."
        if unknown:
            remedy += f" Fields of the bundle: {', '.join(map(quoted_name, fields))}."
        if missing:
            remedy += f" Say which it is: --item-columns {','.join(f'{name}=NAME' for name in missing)}."
        raise PalateError(f"{path} {'; '.join(wrong)}", remedy)
    return rename_columns(table.drop(set(left_out) - set(names.values())), names)


def _check_ids(path: Path, rows: list[int], ids: list[str | None], items: BundleItems) -> None:
    first: dict[str, int] = {}
    wrong = []
    for row, item in zip(rows, ids, strict=True):
        if not item or not item.strip():
            wrong.append(f"row {row} has no item_id")
        elif item != item.strip():
            wrong.append(f"row {row}: item '{item}' begins or ends with a blank")
        elif items.index_of(item) is not None:
            wrong.append(f"row {row}: item '{item}' is in the bundle already")
        elif item in first:
            wrong.append(f"row {row}: item '{item}' is in row {first[item]} already")
        else:
            first[item] = row
    if wrong:
        raise _wrong_rows(path, wrong, "Keep one row for each new item.")


def _typed(path: Path, rows: list[int], column: pl.Series, kind: pl.DataType) -> pl.Series:
    """A column in the type that the catalogue has it in."""
    if column.dtype == pl.String and isinstance(kind, pl.List):
        parts = column.str.split(SEPARATOR).list.eval(pl.element().str.strip_chars())
        column = parts.list.eval(pl.element().filter(pl.element() != ""))
    other = PalateError(f"{path}: the column '{column.name}' holds {column.dtype}, not {kind}", "Convert it.")
    cells = column
    if column.dtype == pl.String and kind == pl.Boolean:  # a text file: `palate prepare` reads the same two words
        column = column.replace_strict({"true": True, "false": False}, default=None, return_dtype=pl.Boolean)
    elif column.dtype == pl.String and kind == pl.Date:
        column = column.str.to_date("%Y-%m-%d", strict=False)
    elif column.dtype == pl.String and kind == pl.Datetime:
        column = column.str.replace(" ", "T", literal=True).str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", strict=False)
    if _inner(kind) == pl.String and not (_inner(column.dtype).is_integer() or _inner(column.dtype) == pl.String):
        raise other  # 10.0 is not how the others write 10
    try:
        made = column.cast(kind, strict=False)
    except pl.exceptions.PolarsError:
        raise other from None
    bad_cells = made.is_null() & cells.is_not_null()
    if column.dtype.is_float() and kind.is_integer():
        bad_cells |= (made.cast(pl.Float64) != column.cast(pl.Float64)).fill_null(False)  # 1.5 is no whole number
    lost = bad_cells.to_list()
    wrong = [
        f"row {row}: '{value}' in column '{column.name}' is no {kind}"
        for row, value, bad in zip(rows, cells.to_list(), lost, strict=True)
        if bad
    ]
    if wrong:
        raise _wrong_rows(path, wrong, "Correct the cells, or leave them empty.")
    return made


def _inner(kind: pl.DataType) -> Any:
    return kind.inner if isinstance(kind, pl.List) else kind


def _pictures(path: Path, rows: list[int], names: list[str | None], images: Path | None) -> dict[int, Path]:
    found: dict[int, Path] = {}
    wrong = []
    for place, (row, name) in enumerate(zip(rows, names, strict=True)):
        if not name or images is None:
            continue
        try:
            found[place] = inside(images, name)
            open_image(found[place])
        except PalateError as error:
            wrong.append(f"row {row}: {error.message}")
    if wrong:
        raise _wrong_rows(path, wrong, "Mend the pictures, or leave those cells empty.")
    return found


def _wrong_rows(path: Path, wrong: list[str], remedy: str) -> PalateError:
    more = f" (and {len(wrong) - _SHOWN} more)" if len(wrong) > _SHOWN else ""
    return PalateError(f"{path}, {'; '.join(wrong[:_SHOWN])}{more}", remedy)


def columns_read(items: BundleItems, features: Iterable[Mapping[str, Any]]) -> list[str]:
    """Columns that a bundle's encoders, words and fields read, in order.

    Args:
        features: the bundle's facts of each.
    """
    names: list[str] = []
    for facts in features:
        content = facts["content"]
        names += content["fields"] if content["kind"] in ("text", FIELDS) else []
    unknown = [name for name in names if name not in items.catalogue.frame.columns]
    if unknown:
        raise PalateError(f"the bundle's items lack the field '{unknown[0]}'", suggest(unknown[0], RESERVED))
    return list(dict.fromkeys(names))
