"""Ids as numbers in the order in which they first occur."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from palate.errors import PalateError

MAX_CODES = 2**31 - 1
_NEW = np.uint32(2**32 - 1)


def numbers_of(ids: pl.Series, among: pl.Series) -> npt.NDArray[np.int32]:
    """The place of each id in ``among``, counted from 1: int32 ``[n]``, 0 for one that is not there.

    For a million ids this takes a third of the time that a dictionary takes.

    Args:
        among: ids, each once.
    """
    numbered = pl.DataFrame({"id": among.cast(pl.String)}).with_row_index("number", 1)
    these = pl.DataFrame({"id": ids.cast(pl.String)})
    found = these.join(numbered, on="id", how="left", maintain_order="left")["number"]
    return found.fill_null(0).cast(pl.Int32).to_numpy()


class Numbering:
    """Numbers the categories of columns that come one after another.

    The codes of the categories themselves depend on which thread of polars came first.

    Attributes:
        kind: the type of the columns. polars forgets its categories with the last column of it, so one stays here.
    """

    def __init__(self, first: pl.Series | None = None) -> None:
        """``first`` are ids, each once, that have the first numbers."""
        self.kind = pl.Categorical(pl.Categories.random())
        self._first = pl.Series([], dtype=self.kind)
        self._numbers = np.full(0, _NEW, np.uint32)  # category -> number
        self._count = 0
        self._ids = [pl.Series("id", [], pl.String)]
        if first is not None:
            self.numbers(first.cast(self.kind))

    def numbers(self, column: pl.Series) -> tuple[npt.NDArray[np.uint32], pl.Series]:
        """The number of each row, and the ids that are new in it, in the order of their numbers.

        Args:
            column: of the type :attr:`kind`, without nulls.
        """
        codes = column.to_physical().cast(pl.UInt32).to_numpy()
        most = int(codes.max()) + 1 if len(codes) else 0
        if most > len(self._numbers):
            more = np.full(max(most, 2 * len(self._numbers)) - len(self._numbers), _NEW, np.uint32)
            self._numbers = np.concatenate([self._numbers, more])
        found = self._numbers[codes]
        rows = np.flatnonzero(found == _NEW)
        if not len(rows):
            return found, self._ids[0]
        kinds, first = np.unique(codes[rows], return_index=True)
        order = np.argsort(first)
        if self._count + len(kinds) > MAX_CODES:
            raise PalateError(f"there are more ids than Palate can number ({MAX_CODES:,})", "Filter the source first.")
        self._numbers[kinds[order]] = np.arange(self._count, self._count + len(kinds), dtype=np.uint32)
        self._count += len(kinds)
        found[rows] = self._numbers[codes[rows]]
        self._ids.append(column.gather(rows[first[order]]).cast(pl.String).rename("id"))
        return found, self._ids[-1]

    def ids(self) -> pl.Series:
        """All ids; the position is the number."""
        return pl.concat(self._ids, rechunk=True)


def recode(old: pl.Series, new: pl.Series) -> npt.NDArray[np.int64]:
    """Code in one table of ids -> code in another, -1 for an id that is not in it; writable."""
    table = pl.DataFrame({"id": new}).with_row_index("code")
    codes = pl.DataFrame({"id": old}).join(table, on="id", how="left", maintain_order="left")["code"]
    return codes.cast(pl.Int64).fill_null(-1).to_numpy(writable=True)
