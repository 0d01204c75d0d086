"""The interaction log as arrays of small integer codes: 20 million rows are 400 MB, whatever the ids look like."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from palate.data.blocks import count
from palate.data.growing import Growing
from palate.data.identity import check_ids
from palate.data.moments import read_times
from palate.data.numbering import Numbering
from palate.data.readers.base import Source
from palate.data.readers.text import unreadable
from palate.errors import PalateError

# Rows that are read at a time.
_BATCH = 1 << 18


@dataclass(frozen=True)
class Log:
    """Interactions, a row each, whose ids are codes into two tables.

    Attributes:
        users: uint32 ``[rows]`` codes of :attr:`user_ids`.
        items: uint32 ``[rows]`` codes of :attr:`item_ids`.
        user_ids: strings; the position is the code. Ids without a row are allowed until :meth:`compact`.
        item_ids: the same for items.
        timestamps: int64 ``[rows]`` Unix milliseconds, or None.
        weights: float32 ``[rows]``, or None.
        places: int64 ``[rows]``, which row of the source each one was; None unless requested.
        beyond: int32 ``[rows]``, nanoseconds to be added to the milliseconds of :attr:`timestamps`, or None.
        first_users, first_items: how many of the first ids stay in :meth:`compact` though they may have no row.
    """

    users: npt.NDArray[np.uint32]
    items: npt.NDArray[np.uint32]
    user_ids: pl.Series
    item_ids: pl.Series
    timestamps: npt.NDArray[np.int64] | None
    weights: npt.NDArray[np.float32] | None
    places: npt.NDArray[np.int64] | None = None
    beyond: npt.NDArray[np.int32] | None = None
    first_users: int = 0
    first_items: int = 0

    def __len__(self) -> int:
        return len(self.users)

    def take(self, rows: npt.NDArray[Any]) -> Self:
        """The rows of a bool mask or of an index array, in its order."""
        return self._with({name: column[rows] for name, column in self.columns.items()})

    def empty(self) -> Self:
        """A log of as many rows with the same tables, to be filled by :meth:`put`."""
        return self._with({name: np.empty_like(column) for name, column in self.columns.items()})

    def _with(self, columns: dict[str, Any]) -> Self:
        return replace(self, **columns)

    def put(self, place: slice, rows: Self) -> None:
        """Write rows over those of ``place``."""
        for name, column in self.columns.items():
            column[place] = rows.columns[name]

    @property
    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """What there is of each row."""
        names = ("users", "items", "timestamps", "weights", "places", "beyond")
        return {name: column for name in names if (column := getattr(self, name)) is not None}

    @property
    def time_keys(self) -> list[npt.NDArray[Any]]:
        """What orders rows by time, the most important first; empty where there are no times."""
        return [key for key in (self.timestamps, self.beyond) if key is not None]

    def user_counts(self) -> npt.NDArray[np.int64]:
        """int64 ``[user ids]``: rows of every user."""
        return count(self.users, len(self.user_ids))

    def item_counts(self) -> npt.NDArray[np.int64]:
        """int64 ``[item ids]``: rows of every item."""
        return count(self.items, len(self.item_ids))

    def counts(self) -> dict[str, int]:
        """Users, items and interactions that are there."""
        return {
            "users": int(np.count_nonzero(self.user_counts())),
            "items": int(np.count_nonzero(self.item_counts())),
            "interactions": len(self),
        }

    def compact(self) -> Self:
        """Ids without a row leave, except the first ones; the rest keep their order."""
        there = self.user_counts() > 0, self.item_counts() > 0
        for mask, first in zip(there, (self.first_users, self.first_items), strict=True):
            mask[:first] = True
        users, user_ids = _compact(self.users, self.user_ids, there[0])
        items, item_ids = _compact(self.items, self.item_ids, there[1])
        return replace(self, users=users, items=items, user_ids=user_ids, item_ids=item_ids)


def _compact(
    codes: npt.NDArray[np.uint32], ids: pl.Series, there: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.uint32], pl.Series]:
    if there.all():
        return codes, ids
    new = (np.cumsum(there) - 1).astype(np.uint32)
    return new[codes], ids.filter(pl.Series(there))


def encode(source: Source, user_ids: pl.Series | None = None, item_ids: pl.Series | None = None) -> Log:
    """Read the interactions; codes count users and items in the order in which the source first names them.

    Args:
        user_ids, item_ids: ids that come first in the log's tables, whether the source names them or not.

    Raises:
        PalateError: a cell is missing or is no number, or times are of several units (file and row are named), or there
            is no interaction at all.
    """
    numberings = {"user": Numbering(user_ids), "item": Numbering(item_ids)}
    arrays: dict[str, Growing] = defaultdict(Growing)
    clocks: dict[int, Growing] = defaultdict(Growing)
    seen = 0
    columns: list[str] = []
    for file, frame in _coded(source, numberings):
        columns = columns or frame.columns
        if set(columns) != set(frame.columns):
            raise PalateError(
                f"{source.where}: only some of the interactions have times or ratings", "Make them alike."
            )
        _refuse_missing(frame, seen, source)
        for name, numbering in numberings.items():
            numbers, new = numbering.numbers(frame[name])
            if (new == "").any():
                raise PalateError(f"{source.where}: an interaction has an empty {name} id", "Correct or remove it.")
            arrays[name].extend(numbers)
        if "weight" in frame.columns:
            arrays["weight"].extend(frame["weight"].to_numpy().astype(np.float32, copy=False))
        if "timestamp" in frame.columns:
            if not frame.schema["timestamp"].is_numeric():
                raise PalateError(
                    f"{source.where}: the reader gives times as {frame.schema['timestamp']}", "Times must be numbers."
                )
            clocks[file].extend(frame["timestamp"].to_numpy())
        seen += len(frame)
    if not seen:
        raise PalateError(f"there is no interaction in {source.where}", "Check the source.")
    user_ids, item_ids = (numbering.ids() for numbering in numberings.values())
    check_ids(user_ids, source.where, "user")
    check_ids(item_ids, source.where)
    times, beyond = read_times(clocks, source) if clocks else (None, None)
    whole = {name: array.done() for name, array in arrays.items()}
    return Log(whole["user"], whole["item"], user_ids, item_ids, times, whole.get("weight"), beyond=beyond)


def _coded(source: Source, numberings: dict[str, Numbering]) -> Iterator[tuple[int, pl.DataFrame]]:
    """Number of the file, and frames whose ids are categorical, so that a string is held once, not once per row."""
    casts = [pl.col(name).cast(pl.String).cast(numbering.kind) for name, numbering in numberings.items()]
    found = source.interactions
    frames: Iterable[pl.LazyFrame | pl.DataFrame] = [found] if isinstance(found, pl.LazyFrame) else found
    for number, frame in enumerate(frames):
        if isinstance(frame, pl.LazyFrame):
            try:
                yield from ((number, batch) for batch in _batches(frame.with_columns(casts)))
            except (OSError, pl.exceptions.PolarsError) as error:
                explained = source.explain(None) if source.explain else None
                raise explained or unreadable(source.where, error) from None
        elif len(frame):
            yield 0, frame.with_columns(casts)


def _batches(frame: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    """The rows in order, a few at a time: what is read is not all in memory before it is numbered."""
    batches = frame.collect_batches(chunk_size=_BATCH, maintain_order=True, engine="streaming")
    return (batch for batch in batches if len(batch))


def _refuse_missing(frame: pl.DataFrame, seen: int, source: Source) -> None:
    bad = [pl.col(name).is_null() for name in frame.columns]
    bad += [~pl.col(name).is_finite() for name in frame.columns if frame.schema[name].is_float()]
    for mask in bad:
        rows = frame.select(mask.arg_true())
        if len(rows):
            row = seen + int(rows.item(0, 0))
            explained = source.explain(row) if source.explain else None
            incomplete = PalateError(f"{source.where}: interaction {row + 1} is not complete", "Correct or remove it.")
            raise explained or incomplete
