"""The interaction log as arrays of small integer codes: 20 million rows are 400 MB, whatever the ids look like."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from palate.data.identity import check_ids
from palate.data.readers.base import Source, TimeUnit
from palate.data.readers.text import unreadable
from palate.errors import PalateError

_PER_MILLISECOND = {"s": 1e-3, "ms": 1.0, "us": 1e3, "ns": 1e6}
_YEAR_1, _YEAR_9999 = -62_135_596_800_000, 253_402_300_799_999
MAX_CODES = 2**31 - 1


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
        places: int64 ``[rows]``, which row of the source each one was; None unless somebody has asked for it.
    """

    users: npt.NDArray[np.uint32]
    items: npt.NDArray[np.uint32]
    user_ids: pl.Series
    item_ids: pl.Series
    timestamps: npt.NDArray[np.int64] | None
    weights: npt.NDArray[np.float32] | None
    places: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.users)

    def take(self, rows: npt.NDArray[Any]) -> Self:
        """The rows of a bool mask or of an index array, in its order."""
        return type(self)(
            self.users[rows],
            self.items[rows],
            self.user_ids,
            self.item_ids,
            None if self.timestamps is None else self.timestamps[rows],
            None if self.weights is None else self.weights[rows],
            None if self.places is None else self.places[rows],
        )

    def user_counts(self) -> npt.NDArray[np.int64]:
        """int64 ``[user ids]``: rows of every user."""
        return np.bincount(self.users, minlength=len(self.user_ids))

    def item_counts(self) -> npt.NDArray[np.int64]:
        """int64 ``[item ids]``: rows of every item."""
        return np.bincount(self.items, minlength=len(self.item_ids))

    def counts(self) -> dict[str, int]:
        """Users, items and interactions that are there."""
        return {
            "users": int(np.count_nonzero(self.user_counts())),
            "items": int(np.count_nonzero(self.item_counts())),
            "interactions": len(self),
        }

    def compact(self) -> Self:
        """Ids without a row leave; the rest keep their order."""
        users, user_ids = _compact(self.users, self.user_ids, self.user_counts() > 0)
        items, item_ids = _compact(self.items, self.item_ids, self.item_counts() > 0)
        return type(self)(users, items, user_ids, item_ids, self.timestamps, self.weights, self.places)


def _compact(
    codes: npt.NDArray[np.uint32], ids: pl.Series, there: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.uint32], pl.Series]:
    if there.all():
        return codes, ids
    new = (np.cumsum(there) - 1).astype(np.uint32)
    return new[codes], ids.filter(pl.Series(there))


def encode(source: Source) -> Log:
    """Read the interactions; codes count users and items in the order in which the source first names them.

    Raises:
        PalateError: a cell is missing or is no number (file and row are named), or there is no interaction at all.
    """
    categories = {"user": pl.Categories.random(), "item": pl.Categories.random()}
    ids: dict[str, list[pl.DataFrame]] = {"user": [], "item": []}
    blocks: list[dict[str, npt.NDArray[Any]]] = []
    seen = 0
    for frame in _coded(source, categories):
        _refuse_missing(frame, seen, source)
        block: dict[str, npt.NDArray[Any]] = {}
        for name in ids:
            block[name] = frame[name].to_physical().cast(pl.UInt32).to_numpy()
            unique = frame[name].unique()
            ids[name].append(pl.DataFrame({"code": unique.to_physical(), "id": unique.cast(pl.String)}))
            if (ids[name][-1]["id"] == "").any():
                raise PalateError(f"{source.where}: an interaction has an empty {name} id", "Correct or remove it.")
        for name in ("timestamp", "weight"):
            if name in frame.columns:
                block[name] = frame[name].to_numpy()
        seen += len(frame)
        blocks.append(block)
    if not seen:
        raise PalateError(f"there is no interaction in {source.where}", "Check the source.")
    whole = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    del blocks
    users, user_ids = _by_first_use(whole.pop("user"), ids.pop("user"))
    items, item_ids = _by_first_use(whole.pop("item"), ids.pop("item"))
    check_ids(user_ids, source.where, "user")
    check_ids(item_ids, source.where)
    times = _milliseconds(whole.pop("timestamp"), source) if "timestamp" in whole else None
    weights = whole.pop("weight").astype(np.float32, copy=False) if "weight" in whole else None
    return Log(users, items, user_ids, item_ids, times, weights)


def _coded(source: Source, categories: dict[str, pl.Categories]) -> Iterable[pl.DataFrame]:
    """Frames whose ids are categorical, so that a string is held once, not once a row."""
    casts = [pl.col(name).cast(pl.String).cast(pl.Categorical(kind)) for name, kind in categories.items()]
    if isinstance(source.interactions, pl.LazyFrame):
        try:
            yield source.interactions.with_columns(casts).collect(engine="streaming")
        except (OSError, pl.exceptions.PolarsError) as error:
            told = source.explain(None) if source.explain else None
            raise told or unreadable(source.where, error) from None
    else:
        for frame in source.interactions:
            if len(frame):
                yield frame.with_columns(casts)


def _refuse_missing(frame: pl.DataFrame, seen: int, source: Source) -> None:
    bad = [pl.col(name).is_null() for name in frame.columns]
    bad += [~pl.col(name).is_finite() for name in frame.columns if frame.schema[name].is_float()]
    for mask in bad:
        rows = frame.select(mask.arg_true())
        if len(rows):
            row = seen + int(rows.item(0, 0))
            told = source.explain(row) if source.explain else None
            raise told or PalateError(f"{source.where}: interaction {row + 1} is not complete", "Correct or remove it.")


def _by_first_use(
    codes: npt.NDArray[np.uint32], tables: list[pl.DataFrame]
) -> tuple[npt.NDArray[np.uint32], pl.Series]:
    """Codes in order of first use: those of the categories depend on which thread came first."""
    table = pl.concat(tables).unique("code").sort("code")
    if len(table) > MAX_CODES:
        raise PalateError(f"{len(table)} ids are more than Palate can number", "Filter the source first.")
    first = np.full(int(table["code"].to_numpy().max()) + 1, len(codes), np.int64)
    # Of several values for one place NumPy keeps the last, so the reversed order leaves the first use.
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
    order = np.argsort(first[table["code"].to_numpy()], kind="stable")
    new = np.empty(len(first), np.uint32)
    new[table["code"].to_numpy()[order]] = np.arange(len(table), dtype=np.uint32)
    return new[codes], table["id"].gather(order)


def _milliseconds(times: npt.NDArray[Any], source: Source) -> npt.NDArray[np.int64]:
    unit: TimeUnit = source.time_unit
    if unit == "auto":
        largest = float(max(abs(float(times.max())), abs(float(times.min()))))
        # 1e11 seconds is the year 5138 and 1e11 milliseconds is 1973, and so on for the finer units.
        unit = "s" if largest < 1e11 else "ms" if largest < 1e14 else "us" if largest < 1e17 else "ns"
    source.report["time_unit"] = unit
    low, high = (float(edge) / _PER_MILLISECOND[unit] for edge in (times.min(), times.max()))
    if low < _YEAR_1 or high > _YEAR_9999:
        raise PalateError(
            f"{source.where}: times in {unit} would lie outside of the years 1 to 9999", "Give the right --time-unit."
        )
    if times.dtype.kind == "f":
        return np.rint(times / _PER_MILLISECOND[unit]).astype(np.int64)
    whole = times.astype(np.int64, copy=False)  # not through floats: nanoseconds have more digits than those
    return whole * 1000 if unit == "s" else whole // int(_PER_MILLISECOND[unit])
