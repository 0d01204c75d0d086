"""Ragged sequences of item indices, perhaps with their times: flat arrays and the offsets of their rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np
import numpy.typing as npt

from palate.data.blocks import count_by_user

# Stands for a time that is not known. No time of a log is that long ago.
NO_TIME = int(np.iinfo(np.int64).min)


@dataclass(frozen=True)
class Sequences:
    """Rows of different lengths without padding and without a Python object a row.

    Attributes:
        values: int32 ``[total]``, item indices (1..num_items; 0 never occurs).
        offsets: int64 ``[rows + 1]``; row ``r`` is ``values[offsets[r]:offsets[r + 1]]``.
        times: int64 ``[total]`` Unix milliseconds of the values, :data:`NO_TIME` where one is not known; None: none is.
        asked: int64 ``[rows]`` Unix milliseconds at which what follows the row is asked for, likewise.

    >>> s = Sequences.from_lists([[3, 1], [], [2]])
    >>> len(s), s[0].tolist(), s.lengths.tolist()
    (3, [3, 1], [2, 0, 1])
    >>> s.last(1).to_lists()
    [[1], [], [2]]
    """

    values: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    times: npt.NDArray[np.int64] | None = None
    asked: npt.NDArray[np.int64] | None = None

    @classmethod
    def from_lists(cls, rows: Sequence[Sequence[int]]) -> Sequences:
        if len(rows) == 1:  # as a service mostly has it
            return cls(np.array(rows[0], np.int32), np.array([0, len(rows[0])], np.int64))
        lengths = np.fromiter((len(row) for row in rows), np.int64, len(rows))
        flat = [np.asarray(row, np.int32) for row in rows]
        values = np.concatenate(flat) if flat else np.empty(0, np.int32)
        return cls(values.astype(np.int32, copy=False), offsets_of(lengths))

    def at(self, times: Sequence[Sequence[int] | None], asked: Sequence[int | None] | None = None) -> Sequences:
        """The same rows with their times.

        Args:
            times: Unix milliseconds of the items of each row, or None for a row whose times are not known.
            asked: Unix milliseconds at which what follows each row is asked for, or None likewise.
        """
        if all(one is None for one in times):
            return replace(self, times=None, asked=None)
        both = zip(self.lengths.tolist(), times, strict=True)
        known = [np.full(length, NO_TIME) if one is None else np.array(one, np.int64) for length, one in both]
        moments = None
        if asked is not None:
            moments = np.array([NO_TIME if one is None else one for one in asked], np.int64)
        return replace(self, times=np.concatenate(known), asked=moments)

    def to_lists(self) -> list[list[int]]:
        return [row.tolist() for row in self]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """int64 ``[rows]``."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def row_keys(self) -> list[bytes]:
        """One for each row: equal where rows have the same values and, if they are known, the same times."""
        rows = [b"%d:" % len(row) + row.tobytes() for row in self]
        if self.times is not None:
            spans = zip(self.offsets[:-1], self.offsets[1:], strict=True)
            rows = [row + self.times[begin:end].tobytes() for row, (begin, end) in zip(rows, spans, strict=True)]
        if self.asked is not None:
            rows = [row + when.tobytes() for row, when in zip(rows, self.asked, strict=True)]
        return rows

    def __iter__(self) -> Iterator[npt.NDArray[np.int32]]:
        for start, stop in zip(self.offsets[:-1], self.offsets[1:], strict=True):
            yield self.values[start:stop]

    @overload
    def __getitem__(self, row: int) -> npt.NDArray[np.int32]: ...
    @overload
    def __getitem__(self, row: slice) -> Sequences: ...
    def __getitem__(self, row: int | slice) -> npt.NDArray[np.int32] | Sequences:
        if isinstance(row, slice):
            start, stop, step = row.indices(len(self))
            if step != 1:
                return self.take(np.arange(start, stop, step))
            stop = max(start, stop)
            bounds = self.offsets[start : stop + 1]
            inside = slice(bounds[0], bounds[-1])
            times = None if self.times is None else self.times[inside]
            asked = None if self.asked is None else self.asked[start:stop]
            return Sequences(self.values[inside], bounds - bounds[0], times, asked)
        if row < 0:
            row += len(self)
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def take(self, rows: npt.ArrayLike) -> Sequences:
        """The given rows, in the given order."""
        index = np.asarray(rows, np.int64)
        taken = self._gather(self.offsets[index], self.lengths[index])
        return taken if self.asked is None else replace(taken, asked=self.asked[index])

    def only(self, mask: npt.NDArray[np.bool_]) -> Sequences:
        """The same rows without some of their values.

        Args:
            mask: bool ``[total]``, the values to keep.
        """
        times = None if self.times is None else self.times[mask]
        return Sequences(self.values[mask], offsets_of(count_by_user(mask, self.offsets)), times, self.asked)

    def last(self, n: int) -> Sequences:
        """The last ``n`` values (or fewer) of every row."""
        lengths = np.minimum(self.lengths, n)
        newest = self._gather(self.offsets[1:] - lengths, lengths)
        return newest if self.asked is None else replace(newest, asked=self.asked)

    def _gather(self, starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> Sequences:
        offsets = offsets_of(lengths)
        index = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
        return Sequences(self.values[index], offsets, None if self.times is None else self.times[index])


def offsets_of(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """int64 ``[rows + 1]`` offsets of rows with the given lengths."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def joined(parts: Sequence[Sequences]) -> Sequences:
    """The rows of several, one after the other, without their times."""
    values = [part.values for part in parts]
    lengths = [part.lengths for part in parts]
    flat = np.concatenate(values) if values else np.empty(0, np.int32)
    return Sequences(flat, offsets_of(np.concatenate(lengths) if lengths else np.empty(0, np.int64)))
