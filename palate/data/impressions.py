"""Impressions: what users were shown, and what they took of it, as far as training may know."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from palate.data.folder import IMPRESSIONS, check_range
from palate.errors import PalateError, one_line
from palate.storage.files import Hashed
from palate.storage.tables import read_parquet

_TYPES = {
    "user": pl.UInt32,
    "item": pl.Int32,
    "timestamp": pl.Int64,
    "taken": pl.Boolean,
    "request": pl.UInt32,
    "position": pl.Int32,
}


@dataclass(frozen=True)
class Impressions:
    """One row per item that was shown: by user, time, request and position. What was not taken is a true negative.

    No row is later than its user's last training interaction, and none that was not taken is of an item that the user
    took at another time in training. Never part of histories or evaluation.

    Attributes:
        users: uint32 ``[rows]``, rows of the dataset's user table.
        items: int32 ``[rows]`` item indices, 1-based.
        times: int64 ``[rows]`` Unix milliseconds of showing.
        taken: bool ``[rows]``.
        requests: uint32 ``[rows]``, ascending from 0: items with the same number were shown together.
        positions: int32 ``[rows]``, 1 is the first place; 0 where it is not known.
    """

    users: npt.NDArray[np.uint32]
    items: npt.NDArray[np.int32]
    times: npt.NDArray[np.int64]
    taken: npt.NDArray[np.bool_]
    requests: npt.NDArray[np.uint32]
    positions: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.users)

    @property
    def num_requests(self) -> int:
        return int(self.requests[-1]) + 1 if len(self) else 0

    @cached_property
    def last_taken(self) -> npt.NDArray[np.int32]:
        """int32 ``[requests]``: the position of the lowest item of each request that was taken, 0 without one."""
        lowest = np.zeros(self.num_requests, np.int32)
        np.maximum.at(lowest, self.requests[self.taken], self.positions[self.taken])
        return lowest

    @cached_property
    def above_taken(self) -> npt.NDArray[np.bool_]:
        """bool ``[rows]``: not taken, and shown above an item of the same request that was."""
        known = self.positions > 0
        return ~self.taken & known & (self.positions < self.last_taken[self.requests])

    def counts(self) -> dict[str, int]:
        """Rows, those taken, requests and users."""
        return {
            "shown": len(self),
            "taken": int(np.count_nonzero(self.taken)),
            "requests": self.num_requests,
            "users": len(np.unique(self.users)),
        }

    def frame(self) -> pl.DataFrame:
        """The rows as they are stored."""
        columns = (self.users, self.items, self.times, self.taken, self.requests, self.positions)
        return pl.DataFrame(dict(zip(_TYPES, columns, strict=True)), schema=_TYPES)

    def hashed(self) -> list[Hashed]:
        """What goes into a dataset's fingerprint."""
        return [
            "impressions",
            self.users,
            self.items,
            self.times,
            self.taken.view(np.uint8),
            self.requests,
            self.positions,
        ]


def load_impressions(folder: Path, num_users: int, num_items: int) -> Impressions:
    """Read the file of a dataset.

    Raises:
        PalateError: it is damaged, or of another dataset.
    """
    try:
        frame = read_parquet(folder / IMPRESSIONS).select(*_TYPES)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise PalateError(f"{folder} is damaged ({one_line(error)})", "Run `palate prepare` again.") from None
    check_range(folder, "user", frame["user"], 0, num_users - 1)
    check_range(folder, "item", frame["item"], 1, num_items)
    sound = dict(frame.schema) == _TYPES and not any(frame.null_count().row(0))
    steps = frame["request"].diff().drop_nulls() if sound else pl.Series([2])
    if not sound or not steps.is_in([0, 1]).all() or (len(frame) and frame["request"][0] != 0):
        raise PalateError(
            f"{folder / IMPRESSIONS} is damaged (its requests are no numbers)", "Run `palate prepare` again."
        )
    return Impressions(*(frame[name].to_numpy() for name in _TYPES))
