"""The files of a dataset's folder: what they are called, what may be in them, and which folders may be replaced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from palate.data.blocks import ROWS
from palate.data.growing import Growing
from palate.data.sequences import Sequences, offsets_of
from palate.errors import PalateError, one_line
from palate.storage.files import read_json
from palate.storage.leftovers import is_temporary, sweep
from palate.storage.tables import read_parquet, scan_parquet

FILES = ("manifest.json", "interactions.parquet", "users.parquet", "items.parquet")
# Only of a dataset that was prepared with --disliked-at-most. It belongs to its interactions, so it is never carried.
DISLIKES = "dislikes.parquet"
# Only of a dataset that was prepared with --feedback; never carried either.
IMPRESSIONS = "impressions.parquet"
# Items that the filters left out. Not of datasets where there are none.
DROPPED = "dropped.parquet"
# What was read, before the filters: only of a dataset that was prepared with --keep-log.
LOG = "log"
# What others have put beside the dataset: it takes hours to make again, or cannot be made again.
IMAGES = "images"
CARRIED = ("features", IMAGES, "summaries")
# Made again where it is used, so it may go.
DERIVED = ("neighbours", "shards")
# Of interactions and dislikes.
OPTIONAL_COLUMNS = pl.selectors.by_name("timestamp", "weight", require_all=False)
_LITTER = (".DS_Store", "Thumbs.db", "desktop.ini")


def check_replaceable(folder: Path) -> None:
    """Refuse to replace a folder unless it is empty, or a dataset with nothing else in it.

    Raises:
        PalateError: the folder is not (wholly) a dataset of Palate, or holds other things, which would be lost.
    """
    sweep(folder.parent)
    if not folder.exists():
        return
    if not folder.is_dir():
        raise PalateError(f"{folder} is a file, so it is not replaced", "Choose another folder.")
    names = sorted(path.name for path in folder.iterdir())
    if not names:
        return
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing or not _is_ours(folder / "manifest.json"):
        why = f"{missing[0]} is missing" if missing else "its manifest.json is not Palate's"
        raise PalateError(
            f"{folder} is not a dataset ({why}), so it is not replaced", "Choose another folder, or remove it yourself."
        )
    others = [
        name
        for name in names
        if name not in (*FILES, DISLIKES, IMPRESSIONS, DROPPED, LOG, *CARRIED, *DERIVED, *_LITTER)
        and not is_temporary(name)
    ]
    if others:
        raise PalateError(
            f"replacing the dataset {folder} would delete {', '.join(others[:5])}{' ...' if others[5:] else ''}",
            "Move that elsewhere first, or choose another folder.",
        )


def carried(folder: Path) -> list[str]:
    """Names of what a dataset that replaces the one in ``folder`` takes over."""
    return [name for name in CARRIED if (folder / name).is_dir()]


def _is_ours(path: Path) -> bool:
    try:
        manifest = read_json(path)
    except PalateError:
        return False
    return (
        isinstance(manifest, dict)
        and isinstance(manifest.get("format"), int)
        and isinstance(manifest.get("fingerprint"), str)
    )


def dislikes_frame(dislikes: Sequences, times: npt.NDArray[np.int64] | None) -> pl.DataFrame:
    users = np.repeat(np.arange(len(dislikes), dtype=np.uint32), dislikes.lengths)
    frame = pl.DataFrame({"user": users, "item": dislikes.values})
    return frame if times is None else frame.with_columns(timestamp=pl.Series(times))


def load_interactions(
    folder: Path, num_users: int, num_items: int, last_part: int
) -> tuple[npt.NDArray[np.int64], dict[str, npt.NDArray[Any]]]:
    """Read the interactions a few at a time, so that the file's columns are never there beside the arrays.

    Returns:
        int64 ``[users]``, interactions of each user; and the arrays ``item`` (int32), ``part`` (uint8) and, where the
        file has them, ``timestamp`` and ``weight``.

    Raises:
        PalateError: a user, item or part is outside of its range, users are out of order, or a time or a weight is no
            number.
    """
    frame = scan_parquet(folder / "interactions.parquet").select("user", "item", "part", OPTIONAL_COLUMNS)
    kinds = {"item": np.int32, "part": np.uint8, "timestamp": np.int64, "weight": np.float32}
    arrays = {name: Growing(kinds[name]) for name in frame.collect_schema().names() if name in kinds}
    lengths, last = np.zeros(num_users, np.int64), 0
    for batch in frame.collect_batches(chunk_size=ROWS, maintain_order=True, engine="streaming"):
        check_range(folder, "user", batch["user"], 0, num_users - 1)
        check_range(folder, "item", batch["item"], 1, num_items)
        check_range(folder, "part", batch["part"], 0, last_part)
        check_optional(folder, batch)
        last = _check_order(folder, batch["user"], last)
        lengths += np.bincount(batch["user"].to_numpy(), minlength=num_users)
        for name, array in arrays.items():
            values = batch[name].to_numpy()
            array.extend(values.astype(kinds[name], copy=False) if name in ("item", "part") else values)
    return lengths, {name: array.done() for name, array in arrays.items()}


def _check_order(folder: Path, users: pl.Series, last: int) -> int:
    """The last user of some rows, which must come in the order of users: each has the next rows of the arrays.

    Raises:
        PalateError: a user comes after a later one.
    """
    if not len(users):
        return last
    if users[0] < last or not users.is_sorted():
        raise PalateError(f"{folder} is damaged (users are out of order)", "Run `palate prepare` again.")
    return int(users[-1])


def load_dislikes(folder: Path, num_users: int, num_items: int) -> tuple[Sequences, npt.NDArray[np.int64] | None]:
    try:
        frame = read_parquet(folder / DISLIKES).select("user", "item", OPTIONAL_COLUMNS)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise PalateError(f"{folder} is damaged ({one_line(error)})", "Run `palate prepare` again.") from None
    check_range(folder, "user", frame["user"], 0, num_users - 1)
    check_range(folder, "item", frame["item"], 1, num_items)
    check_optional(folder, frame)
    _check_order(folder, frame["user"], 0)
    lengths = np.bincount(frame["user"].to_numpy(), minlength=num_users).astype(np.int64)
    times = frame["timestamp"].to_numpy() if "timestamp" in frame.columns else None
    return Sequences(frame["item"].to_numpy().astype(np.int32), offsets_of(lengths)), times


def check_optional(folder: Path, frame: pl.DataFrame) -> None:
    """Times are whole numbers and weights finite ones; a column that is there has one in each row."""
    for name in ("timestamp", "weight"):
        if name not in frame.columns:
            continue
        column, kind = frame[name], frame.schema[name]
        sound = kind.is_integer() if name == "timestamp" else kind.is_float() and bool(column.is_finite().all())
        if not sound or column.null_count():
            raise PalateError(
                f"{folder} is damaged (the {name} of an interaction is no number)", "Run `palate prepare` again."
            )


def check_range(folder: Path, name: str, column: pl.Series, least: int, most: int) -> None:
    """Refuse files of two datasets mixed in one folder here, rather than by an index error later."""
    if not column.dtype.is_integer():
        raise PalateError(
            f"{folder} is damaged (the {name} of an interaction is no number)", "Run `palate prepare` again."
        )
    low, high = column.min(), column.max()
    if column.null_count() or (isinstance(low, int) and low < least) or (isinstance(high, int) and high > most):
        article = "an" if name == "item" else "a"
        known = "there is not" if name == "part" else "it does not have"
        raise PalateError(
            f"{folder} is damaged (interactions of {article} {name} that {known})",
            "Run `palate prepare` again.",
        )
