"""Datasets from frames (polars, pandas, pyarrow, the hub): the same filters and splits as ``palate prepare``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import polars as pl

from palate.console import print_note
from palate.data.assemble import assemble
from palate.data.dataset import Dataset
from palate.data.feedback.options import take_feedback_options
from palate.data.prepare import check_keeps, sort_options
from palate.data.readers.base import Source
from palate.data.readers.pictures import find_pictures, pictures_of
from palate.data.readers.shape import explain_cell, pick_columns, shape_catalogue, shape_interactions
from palate.data.readers.times import unused_times
from palate.data.unpacked import holds_pictures, unpack
from palate.errors import PalateError

# Any stands for a pandas frame: pandas is optional, so its types may not be there.
Frame: TypeAlias = pl.DataFrame | pl.LazyFrame | Any


def from_frames(
    interactions: Frame,
    catalogue: Frame | None = None,
    *,
    user: str = "user",
    item: str = "item",
    timestamp: str | None = None,
    weight: str | None = None,
    item_columns: Mapping[str, str] | None = None,
    images: Path | str | None = None,
    name: str = "frames",
    seed: int = 0,
    keep_unseen: bool = False,
    clean_text: bool = False,
    keep_log: bool = False,
    **options: Any,
) -> Dataset:
    """Make a Dataset of frames; ``Dataset.save`` writes it.

    Args:
        interactions: one row per interaction, a user's oldest first where there is no ``timestamp``.
        catalogue: one row per item, with an ``item_id`` column (or see ``item_columns``), and ``title``, ``image``
            (a path relative to ``images``, or the picture: bytes, or structs with ``bytes``) and any fields.
        user, item: columns with ids, text or whole numbers.
        timestamp: column with dates, or Unix seconds, milliseconds ... (told apart by their size, see ``time_unit``);
            text may be ISO, or in a ``time_format`` such as ``"%d/%m/%Y"``. No column is read as times unless it is
            named here: a note points out one that looks like times, ``""`` leaves it out without one.
        weight: column with ratings or counts.
        item_columns: our name -> the catalogue's, e.g. ``{"item_id": "sku", "title": "name"}``.
        images: folder of pictures; without an ``image`` column they are found there as ``<item id>.jpg``.
        clean_text: take HTML tags and entities out of titles and texts.
        keep_log: keep the rows that were read, so that later ones can be appended.
        options: as in :func:`palate.data.prepare.prepare`: ``k_core``, ``min_rating``, ``split`` ...
            ``feedback`` is the path of a folder or file; its columns are named as for the command.
            With ``disliked_at_most`` low weights become ``Dataset.dislikes`` (see :mod:`palate.data.dislikes`).

    Raises:
        PalateError: naming the frame, column and row.

    >>> log = pl.DataFrame({"user": ["u"] * 4, "item": ["a", "b", "c", "d"]})
    >>> dataset = from_frames(log, k_core=0)
    >>> dataset.cases("test").histories.to_lists(), dataset.cases("test").targets.to_lists()
    ([[1, 2, 3]], [[4]])
    """
    feedback, rest = take_feedback_options(options)
    filters, split, reading = sort_options(rest)
    check_keeps(keep_log, filters)
    refused = sorted(reading.model_fields_set - {"time_unit", "time_format"})
    if refused:
        raise PalateError(
            f"from_frames takes no '{refused[0]}'", "Name the columns by user=, item=, timestamp=, weight=."
        )
    log = _polars(interactions, "interactions").lazy()
    columns_of = {"user": user, "item": item, "timestamp": timestamp, "weight": weight}
    named = {ours: theirs for ours, theirs in columns_of.items() if theirs is not None}
    there = log.collect_schema().names()
    unnamed = [ours for ours in ("user", "item") if columns_of[ours] == ours and ours not in there]
    if unnamed:
        raise PalateError(
            f"interactions has no column {' and no column '.join(map(repr, unnamed))}",
            f"Name the column: {', '.join(f'{ours}=NAME' for ours in unnamed)}, of {', '.join(there)}.",
        )
    columns = {ours: theirs for ours, theirs in pick_columns(there, named, "interactions").items() if ours in named}
    unused = unused_times(log.collect_schema(), columns, named)
    if unused:
        print_note(
            f"Note: interactions are taken in the order of the rows. The column '{unused[0]}' may hold times and is "
            f"not read: timestamp='{unused[0]}' reads it, timestamp='' leaves it out."
        )
    shaped, unit = shape_interactions(log, columns, "interactions", reading.time_format)
    items, root = None, Path(images) if images is not None else Path()
    report: dict[str, int] = {}
    if catalogue is not None:
        frame = _polars(catalogue, "catalogue").lazy().collect()
        image = (item_columns or {}).get("image", "image")
        if image in frame.columns and holds_pictures(frame.schema[image]):
            if images is not None:
                raise PalateError("images= is given, and the catalogue holds pictures itself", "Leave images= out.")
            names, root, report = unpack([frame[image]])
            frame = frame.with_columns(names.alias(image))
        items = shape_catalogue(frame, item_columns or {}, "catalogue", command=False)
    found: dict[str, str] = {}
    if images is not None:
        names_pictures = items is not None and "image" in items.columns and root.is_dir()
        found = find_pictures(root) if names_pictures else pictures_of(root, root)[0]

    def explain(row: int | None) -> PalateError | None:
        if row is None:
            return None
        cells = log.slice(row, 1).collect().to_dicts()[0]
        return explain_cell(cells, columns, f"interactions, row {row + 1}", reading.time_format, command=False)

    source = Source(
        interactions=shaped,
        files=[],
        catalogue=items,
        images=found,
        root=root,
        time_unit=reading.time_unit if unit == "auto" else unit,
        report=report,
        explain=explain,
        locate=lambda row: f"interactions, row {row + 1}",
        unused_times=unused,
    )
    facts = {"name": name, "source": {"name": "frames", "files": {}}, "reader": "frames", "reader_options": columns}
    return assemble(
        source,
        filters,
        split,
        seed=seed,
        facts=facts,
        keep_unseen=keep_unseen,
        clean_text=clean_text,
        keep_log=keep_log,
        feedback=feedback,
    )


def _polars(frame: Frame, what: str) -> pl.DataFrame | pl.LazyFrame:
    if isinstance(frame, pl.DataFrame | pl.LazyFrame):
        return frame
    try:
        if type(frame).__module__.split(".")[0] == "pandas":
            return pl.from_pandas(frame)
        if hasattr(frame, "__arrow_c_stream__"):  # pyarrow, duckdb ...
            return pl.DataFrame(frame)
        if type(frame).__module__.split(".")[0] == "datasets" and hasattr(frame, "to_polars"):
            return pl.DataFrame(frame.to_polars())
    except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
        raise PalateError(f"the frame of {what} cannot be read ({error})", "Make its columns uniform.") from None
    raise PalateError(
        f"the {what} are a {type(frame).__name__}",
        "Give a frame of polars or pandas, a table of pyarrow, or a dataset of the hub (one split).",
    )
