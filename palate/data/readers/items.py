"""``item_meta.tsv`` and ``item_text.tsv``: what is known of each item, one row per item, in columns split by tabs."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from palate.data.readers.cells import typed_columns
from palate.data.readers.text import scan_delimited, unreadable
from palate.errors import PalateError
from palate.names import free_name

META, TEXTS = "item_meta.tsv", "item_text.tsv"
# Columns of films that hold several names; together with a year in the title they are read as MovieLens's are.
_LISTS = ("genres", "director", "cast")
_YEAR = r"\s*\((\d{4})(?:[-–]\d{0,4})?\)\s*$"


def read_items(folder: Path) -> tuple[pl.DataFrame | None, list[Path]]:
    """The catalogue of the files that are in ``folder``, and those files.

    The title is that of ``item_meta.tsv``, or else the ``text`` (or ``title``) of ``item_text.tsv``. All other columns
    become fields; empty cells are missing. A column in which every cell is a number holds numbers, which are no text.
    Where there are ``genres``, the items are films: genres, directors and cast become lists, and the year at the end
    of a title becomes the field ``year``.

    Returns:
        ``item_id``, ``title`` and fields, with the rows of ``item_meta.tsv`` first; None where neither file is there.

    Raises:
        PalateError: a file cannot be read, or has no column ``item_id`` (or, ``item_text.tsv``, no text).
    """
    files = [folder / name for name in (META, TEXTS) if (folder / name).is_file()]
    if not files:
        return None, []
    frames = [_read(path) for path in files]
    frame = frames[0] if len(frames) == 1 else _merge(*frames)
    frame = frame.select("item_id", "title", *(name for name in frame.columns if name not in ("item_id", "title")))
    frame = frame.with_columns(typed_columns(frame, ("item_id", "title", "image", *_LISTS)))
    return (_films(frame) if "genres" in frame.columns else frame), files


def _read(path: Path) -> pl.DataFrame:
    table = scan_delimited(path, "\t", quoted=False)
    there = table.columns
    title = next((name for name in ("title", "text") if name in there), None)
    if "item_id" not in there or (title is None and path.name == TEXTS):
        expected = "item_id and text" if path.name == TEXTS else "item_id and any of title, brand, categories"
        missing = "item_id" if "item_id" not in there else "text"
        raise PalateError(
            f"{path} has no column '{missing}'", f"Expected a header line with {expected}; it has: {', '.join(there)}."
        )
    cells = [pl.col(name).str.strip_chars() for name in there]
    try:
        frame = table.frame.select(pl.when(cell != "").then(cell) for cell in cells).collect()
    except pl.exceptions.PolarsError as error:
        raise table.explain(None, {}) or unreadable(path, error) from None
    return frame.with_columns(title=pl.lit(None, pl.String)) if title is None else frame.rename({title: "title"})


def _merge(meta: pl.DataFrame, texts: pl.DataFrame) -> pl.DataFrame:
    """Every item of either; a cell that both have is that of ``meta``."""
    single = texts.filter(pl.col("item_id").is_not_null()).unique("item_id", keep="first", maintain_order=True)
    both = [name for name in meta.columns if name in single.columns and name != "item_id"]
    other = {name: free_name(name, {*meta.columns, *single.columns}) for name in both}
    frame = meta.join(single.rename(other), "item_id", how="full", coalesce=True, maintain_order="left_right")
    return frame.with_columns(pl.coalesce(name, other[name]) for name in both).drop(other.values())


def _films(frame: pl.DataFrame) -> pl.DataFrame:
    names = [name for name in _LISTS if name in frame.columns]
    split = [pl.col(name).str.split(",").list.eval(pl.element().str.strip_chars()) for name in names]
    frame = frame.with_columns(cell.list.eval(pl.element().filter(pl.element() != "")) for cell in split)
    years = frame["title"].str.extract(_YEAR).cast(pl.Int32)
    if "year" in frame.columns or years.is_null().all():
        return frame
    title = pl.col("title").str.replace(_YEAR, "")
    return frame.with_columns(title=pl.when(title != "").then(title)).insert_column(2, years.alias("year"))
