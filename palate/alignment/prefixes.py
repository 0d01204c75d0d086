"""What a user took up to a place of the training log, and what the user takes later."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from palate.data.sequences import Sequences

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Prefixes:
    """Training sequences, queried by place: ``places`` are indices of ``sequences.values``.

    The target at a place is the value after it.
    """

    sequences: Sequences

    def owners(self, places: Integers) -> Integers:
        """int64 ``[P]``: the user (row) of each place."""
        return self._owner[places]

    @cached_property
    def _owner(self) -> Integers:
        return np.repeat(np.arange(len(self.sequences)), self.sequences.lengths)

    def before(self, places: Integers) -> Integers:
        """int64 ``[P]``: how many values of its user precede each place."""
        result: Integers = places - self.sequences.offsets[self.owners(places)]
        return result

    def left(self, places: Integers) -> Integers:
        """int64 ``[P]``: how many values of its user follow each place."""
        result: Integers = self.sequences.offsets[self.owners(places) + 1] - places - 1
        return result

    def ahead(self, places: Integers, steps: Integers) -> Integers:
        """int64 ``[P]``: the item ``steps`` after each place."""
        items: Integers = self.sequences.values[places + steps].astype(np.int64)
        return items

    def past(self, places: Integers, ahead: int) -> tuple[Integers, Integers]:
        """(rows, items) of all that each place's user took up to the place, and of the ``ahead`` items after it."""
        owners = self.owners(places)
        ends = np.minimum(places + 1 + ahead, self.sequences.offsets[owners + 1])
        return self._ranges(self.sequences.offsets[owners], ends)

    def newest(self, places: Integers, count: int) -> tuple[Integers, Integers]:
        """(rows, items) of the ``count`` newest items of each place's user up to the place."""
        starts = np.maximum(places + 1 - count, self.sequences.offsets[self.owners(places)])
        return self._ranges(starts, places + 1)

    def future(self, places: Integers) -> tuple[Integers, Integers]:
        """(rows, items) of all that each place's user takes after it."""
        return self._ranges(places + 1, self.sequences.offsets[self.owners(places) + 1])

    def last(self, places: Integers) -> npt.NDArray[np.bool_]:
        """bool ``[P]``: whether the target is the last of its user."""
        result: npt.NDArray[np.bool_] = places + 2 == self.sequences.offsets[self.owners(places) + 1]
        return result

    def of_users(self, users: Integers) -> tuple[Integers, Integers]:
        """(rows, items) of all values of each user (row of ``sequences``)."""
        return self._ranges(self.sequences.offsets[users], self.sequences.offsets[users + 1])

    def _ranges(self, starts: Integers, ends: Integers) -> tuple[Integers, Integers]:
        counts = ends - starts
        rows = np.repeat(np.arange(len(starts)), counts)
        index = np.arange(len(rows)) + np.repeat(starts - (np.cumsum(counts) - counts), counts)
        return rows, self.sequences.values[index].astype(np.int64)
