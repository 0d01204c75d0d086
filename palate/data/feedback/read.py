"""Feedback files as arrays of small codes: what was shown, what was taken, one row per event."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from palate.data.feedback.columns import pick_feedback_columns, shape_feedback
from palate.data.growing import Growing
from palate.data.identity import check_ids
from palate.data.moments import judge, moments
from palate.data.numbering import Numbering
from palate.data.readers.base import ReaderOptions
from palate.data.readers.table_files import ParquetTable, find_tables, open_table
from palate.data.readers.text import Delimited, unreadable
from palate.errors import PalateError

# The code of what is not known: a user without a name, an event without a request.
NONE = np.uint32(2**32 - 1)
_BATCH = 1 << 18
_CODED = ("user", "item", "request", "kind")
_KINDS = {"times": np.int64, "positions": np.int32, "shown": np.bool_, "taken": np.bool_}


@dataclass(frozen=True)
class Feedback:
    """Events in the order of the files.

    Attributes:
        users, items, requests, kinds: uint32 ``[rows]`` codes of the tables of ids below, or :data:`NONE`.
        times: int64 ``[rows]`` Unix milliseconds.
        positions: int32 ``[rows]`` from 1; 0 where it is not known.
        shown, taken: bool ``[rows]``; a table with a column ``taken`` has rows that are both.
        ids: of ``user``, ``item``, ``request`` and ``kind``; the position is the code.
        files: what was read.
    """

    users: npt.NDArray[np.uint32]
    items: npt.NDArray[np.uint32]
    requests: npt.NDArray[np.uint32]
    kinds: npt.NDArray[np.uint32]
    times: npt.NDArray[np.int64]
    positions: npt.NDArray[np.int32]
    shown: npt.NDArray[np.bool_]
    taken: npt.NDArray[np.bool_]
    ids: dict[str, pl.Series]
    files: list[Path]

    def __len__(self) -> int:
        return len(self.users)

    def take(self, rows: npt.NDArray[Any]) -> Feedback:
        """The rows of a bool mask or of an index array."""
        names = ("users", "items", "requests", "kinds", "times", "positions", "shown", "taken")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})


def read_feedback(source: Path, columns: Mapping[str, str]) -> Feedback:
    """Read a folder of Parquet or text files, or a single file.

    Args:
        columns: our name -> the table's, as of ``--feedback-columns``.

    Raises:
        PalateError: naming the file, and the row or column: nothing to read, a cell that is missing or no such value.
    """
    files = _files(source)
    numberings = {name: Numbering() for name in _CODED}
    arrays = {name: Growing(np.uint32) for name in _CODED} | {name: Growing(kind) for name, kind in _KINDS.items()}
    for path in files:
        table = open_table(path, ReaderOptions())
        try:
            _read(table, columns, numberings, arrays)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise unreadable(path, error) from None
    ids = {name: numbering.ids() for name, numbering in numberings.items()}
    for name in ("user", "item"):
        check_ids(ids[name], str(source), name)
    done = {name if name in _KINDS else f"{name}s": array.done() for name, array in arrays.items()}
    return _with_users(Feedback(**done, ids=ids, files=files))


def _files(source: Path) -> list[Path]:
    """The file, or those of a folder: all Parquet files, or else the text files.

    A service keeps a journal beside its Parquet files until it becomes one of them.
    """
    if not source.exists():
        raise PalateError(f"--feedback {source} does not exist", "Check the path.")
    if source.is_file():
        return [source]
    there = sorted(path for path in source.iterdir() if path.is_file() and not path.name.startswith("."))
    tables = [path for path in there if path.suffix == ".parquet"]
    if tables:
        return tables
    if any(path.suffix == ".jsonl" for path in there):
        raise PalateError(
            f"--feedback {source} has no Parquet file yet, only the journal of a service",
            "The service makes one every hour and when it ends.",
        )
    if not there:
        raise PalateError(f"--feedback {source} is empty", "Leave the option out until something was shown.")
    return find_tables(source, None)


def _with_users(feedback: Feedback) -> Feedback:
    """What was taken mostly names its request and not its user; the other events of the request know who it was."""
    of_request = np.full(len(feedback.ids["request"]), NONE, np.uint32)
    known = (feedback.users != NONE) & (feedback.requests != NONE)
    of_request[feedback.requests[known]] = feedback.users[known]
    lacking = np.flatnonzero((feedback.users == NONE) & (feedback.requests != NONE))
    users = feedback.users.copy()
    users[lacking] = of_request[feedback.requests[lacking]]
    return replace(feedback, users=users)


def _read(
    table: ParquetTable | Delimited,
    named: Mapping[str, str],
    numberings: dict[str, Numbering],
    arrays: dict[str, Growing],
) -> None:
    columns = pick_feedback_columns(table.columns, named, str(table.path))
    frame, unit = shape_feedback(table.frame, columns, str(table.path))
    clock, row = Growing(), 0
    for batch in _batches(frame):
        _refuse(batch, row, table, columns)
        for name, numbering in numberings.items():
            arrays[name].extend(_codes(batch[name], numbering))
        arrays["positions"].extend(batch["position"].fill_null(0).to_numpy())
        for name in ("shown", "taken"):
            arrays[name].extend(batch[name].to_numpy())
        clock.extend(batch["time"].to_numpy())
        row += len(batch)
    if row:
        arrays["times"].extend(_milliseconds(clock.done(), unit, table))


def _batches(frame: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    batches = frame.collect_batches(chunk_size=_BATCH, maintain_order=True, engine="streaming")
    return (batch for batch in batches if len(batch))


def _codes(column: pl.Series, numbering: Numbering) -> npt.NDArray[np.uint32]:
    there = column.is_not_null()
    codes = np.full(len(column), NONE, np.uint32)
    if there.any():
        codes[there.to_numpy()] = numbering.numbers(column.filter(there).cast(numbering.kind))[0]
    return codes


def _milliseconds(
    times: npt.NDArray[Any], unit: Literal["auto", "s", "ms", "us", "ns"], table: ParquetTable | Delimited
) -> npt.NDArray[np.int64]:
    if unit == "auto":
        unit, smaller = judge(times)
        if len(smaller):
            row = int(smaller[0])
            raise PalateError(
                f"{table.at(row)}: the time {times[row].item():g} is of another unit than others of the file",
                "Write all times in Unix milliseconds.",
            )
    return moments(times, unit)[0]


def _refuse(batch: pl.DataFrame, first: int, table: ParquetTable | Delimited, columns: Mapping[str, str]) -> None:
    """Refuse the first row that is not complete, naming its column and what may be there."""
    for name, theirs, needs in (
        ("item", columns["item"], "Every event needs its item."),
        ("time", columns["time"], "Every event needs its time: a number, a date or ISO text."),
        ("shown", columns.get("event", columns.get("taken", "")), "It must be shown or taken; as taken=NAME, 0 or 1."),
    ):
        rows = batch.select(pl.col(name).is_null().arg_true())[name]
        if len(rows):
            row = first + int(rows[0])
            raise PalateError(f"{table.at(row)}: '{table.cells(row)[theirs]}' in the column '{theirs}'", needs)
    rows = batch.select((pl.col("position") < 1).arg_true())["position"]
    if len(rows):
        row = first + int(rows[0])
        raise PalateError(
            f"{table.at(row)}: '{table.cells(row)[columns['position']]}' in the column '{columns['position']}'",
            "Positions count from 1; leave those empty that are not known.",
        )
