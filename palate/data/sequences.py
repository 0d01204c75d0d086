"""Ragged sequences of item indices: one flat array and the offsets of its rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Sequences:
    """Rows of different lengths without padding and without a Python object a row.

    Attributes:
        values: int32 ``[total]``, item indices (1..num_items; 0 never occurs).
        offsets: int64 ``[rows + 1]``; row ``r`` is ``values[offsets[r]:offsets[r + 1]]``.

    >>> s = Sequences.from_lists([[3, 1], [], [2]])
    >>> len(s), s[0].tolist(), s.lengths.tolist()
    (3, [3, 1], [2, 0, 1])
    >>> s.last(1).to_lists()
    [[1], [], [2]]
    """

    values: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]

    @classmethod
    def from_lists(cls, rows: Sequence[Sequence[int]]) -> Sequences:
        if len(rows) == 1:  # as a service mostly has it
            return cls(np.array(rows[0], np.int32), np.array([0, len(rows[0])], np.int64))
        lengths = np.fromiter((len(row) for row in rows), np.int64, len(rows))
        flat = [np.asarray(row, np.int32) for row in rows]
        values = np.concatenate(flat) if flat else np.empty(0, np.int32)
        return cls(values.astype(np.int32, copy=False), offsets_of(lengths))

    def to_lists(self) -> list[list[int]]:
        return [row.tolist() for row in self]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """int64 ``[rows]``."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

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
            return Sequences(self.values[bounds[0] : bounds[-1]], bounds - bounds[0])
        if row < 0:
            row += len(self)
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def take(self, rows: npt.ArrayLike) -> Sequences:
        """The given rows, in the given order."""
        index = np.asarray(rows, np.int64)
        return self._gather(self.offsets[index], self.lengths[index])

    def last(self, n: int) -> Sequences:
        """The last ``n`` values (or fewer) of every row."""
        lengths = np.minimum(self.lengths, n)
        return self._gather(self.offsets[1:] - lengths, lengths)

    def _gather(self, starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> Sequences:
        offsets = offsets_of(lengths)
        index = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
        return Sequences(self.values[index], offsets)


def offsets_of(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """int64 ``[rows + 1]`` offsets of rows with the given lengths."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def joined(parts: Sequence[Sequences]) -> Sequences:
    """The rows of several, one after the other."""
    values = [part.values for part in parts]
    lengths = [part.lengths for part in parts]
    flat = np.concatenate(values) if values else np.empty(0, np.int32)
    return Sequences(flat, offsets_of(np.concatenate(lengths) if lengths else np.empty(0, np.int64)))
