"""Lines and delimited text as lazy frames of strings, with the row number at hand when something is wrong."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import polars as pl

from palate.data.readers.lines import open_text, row_starts
from palate.data.readers.quotes import AUTO, find_quote
from palate.errors import PalateError
from palate.names import free_name, quoted_name
from palate.storage.tables import scan_csv


@dataclass(frozen=True)
class Delimited:
    """A text table whose cells are still strings.

    Attributes:
        path: the file, for messages.
        numbered: its columns as strings (null where empty), and the number of each row in the column :attr:`index`.
        index: a name that no column has.
        separator: one character.
        quote: the character that encloses cells, or None.
        width: cells in a row; None where the header line says it.
        quotes_are_text: whether the file has double quotes that enclose nothing.
    """

    path: Path
    numbered: pl.LazyFrame
    index: str
    separator: str
    quote: str | None
    width: int | None = None
    quotes_are_text: bool = False

    @property
    def frame(self) -> pl.LazyFrame:
        """The columns as strings, null where empty."""
        return self.numbered.drop(self.index)

    @property
    def columns(self) -> list[str]:
        return columns_of(self.frame, self.path)

    def require(self, names: Iterable[str], remedy: str | None = None) -> None:
        """Refuse a table that lacks one of the columns."""
        there = self.columns
        for name in names:
            if name not in there:
                shown = ", ".join(map(quoted_name, there))
                raise PalateError(f"{self.path} has no column '{name}'", remedy or f"It has: {shown}.")

    def interactions(self, columns: Mapping[str, str]) -> pl.LazyFrame:
        """The columns as ``user``, ``item``, ``timestamp``, ``weight``; null where a number cannot be read.

        Args:
            columns: our name -> name in the table.
        """
        types = {"timestamp": pl.Float64, "weight": pl.Float32}
        self.require(columns.values())
        return self.frame.select(
            **{
                ours: pl.col(theirs).cast(types[ours], strict=False) if ours in types else pl.col(theirs)
                for ours, theirs in columns.items()
            }
        )

    def cells(self, row: int) -> dict[str, Any]:
        """The cells of a row of the table (from 0)."""
        return self.frame.slice(row, 1).collect().to_dicts()[0]

    def at(self, row: int) -> str:
        """The file and the line in which a row of the table (from 0) begins, as an editor shows it, for messages."""
        number = self.numbered.slice(row, 1).select(self.index).collect().item()
        return f"{self.path}, row {next(islice(row_starts(self.path, self.quote), number, None))}"

    def starts(self, numbers: Sequence[int]) -> list[int]:
        """The line in which each row begins, of its number in the column :attr:`index`."""
        lines = list(row_starts(self.path, self.quote))
        return [lines[number] for number in numbers]

    def explain(self, row: int | None, columns: Mapping[str, str]) -> PalateError | None:
        """Say what is wrong in a row (from 0) in which one of the columns came out null.

        Args:
            row: None where the file could not be read at all; the answer is None where that is not a row's fault.
        """
        if row is None:
            return self._too_wide()
        cells, at = self.cells(row), self.at(row)
        for ours, theirs in columns.items():
            value = cells[theirs]
            if value is None or not value.strip():
                return PalateError(f"{at}: no value in column '{theirs}'", f"Every interaction needs its {ours}.")
            if ours in ("timestamp", "weight"):
                number = pl.Series([value]).cast(pl.Float32, strict=False)[0]
                if number is None or not math.isfinite(number):
                    what = "a number" if number is None else "a finite number"
                    return PalateError(
                        f"{at}: '{value}' in column '{theirs}' is not {what}", "Correct or remove the row."
                    )
        return PalateError(f"{at}: cannot be read", "Correct or remove the row.")

    def _too_wide(self) -> PalateError | None:
        """The first row with more cells than the others; polars refuses such a file without saying which it is."""
        with open_text(self.path) as file:
            width, ended = self.width, 0
            try:
                for row, last in _records(file, self.separator, self.quote):
                    width = width or len(row)
                    if len(row) > width:
                        return PalateError(
                            f"{self.path}, row {ended + 1}: {len(row)} cells, not {width}",
                            "Correct the row; a cell that holds the separator must be in double quotes.",
                        )
                    ended = last
            except csv.Error:
                return None
        return None


def _records(file: Iterable[str], separator: str, quote: str | None) -> Iterator[tuple[list[str], int]]:
    """The cells of each row, and the line in which it ends."""
    quoting: Literal[0, 3] = csv.QUOTE_NONE if quote is None else csv.QUOTE_MINIMAL
    rows = csv.reader(file, delimiter=separator, quoting=quoting, quotechar=quote)
    for row in rows:
        yield row, rows.line_num


def scan_delimited(
    path: Path,
    separator: str,
    names: Sequence[str] | None = None,
    quoted: bool = True,
    *,
    quote: str = AUTO,
    header: bool = True,
) -> Delimited:
    """Open a delimited text file without reading all of it.

    Args:
        names: column names of a file without a header line.
        quoted: whether quotes enclose cells; False: they are text, whatever ``quote`` is.
        quote: the character that encloses cells, ``none`` or ``auto``, as
            :func:`~palate.data.readers.quotes.find_quote` takes it.
        header: whether there is a header line; without one (and without ``names``) the columns are called 1, 2, 3 ...

    Raises:
        PalateError: the file is empty, or its quotes do not say where cells end.
    """
    if path.stat().st_size == 0:
        raise PalateError(f"{path} is empty", "Check the file.")
    encloses = find_quote(path, separator, quote) if quoted else None
    if names is None and not header:
        with open_text(path) as file:
            first = next((row for row, _ in _records(file, separator, encloses) if row), [])
        names = [str(place) for place in range(1, len(first) + 1)]
    options: dict[str, Any] = {
        "separator": separator,
        "has_header": names is None,
        "schema": dict.fromkeys(names, pl.String) if names else None,
        "infer_schema": False,
        "quote_char": encloses,
    }
    index = free_name("row", columns_of(scan_csv(path, **options), path))
    frame = scan_csv(path, **options, row_index_name=index, row_index_offset=0 if names else 1)
    blank = pl.all_horizontal(pl.all().exclude(index).is_null())
    # A blank line is no row.
    width = len(names) if names else None
    return Delimited(path, frame.filter(~blank), index, separator, encloses, width, quoted and encloses is None)


def scan_lines(path: Path) -> pl.LazyFrame:
    """The lines of a UTF-8 text file that are not blank, as the column ``line``, in order."""
    if path.stat().st_size == 0:
        raise PalateError(f"{path} is empty", "Check the file.")
    # No text file has this separator, so a line is one cell.
    frame = scan_csv(path, separator="\x01", has_header=False, schema={"line": pl.String}, quote_char=None)
    return frame.filter(pl.col("line").str.strip_chars().str.len_bytes() > 0)


def read_lines(path: Path) -> list[str]:
    """The lines of a small file: UTF-8, or else Latin-1 as in the older MovieLens files.

    They end at line feeds only: str.splitlines also splits at what a title may hold, such as U+0085.
    """
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return [line.removesuffix("\r") for line in text.split("\n")]


def columns_of(frame: pl.LazyFrame, path: Path) -> list[str]:
    """Column names of a lazy frame; a file that cannot be read is a clear error."""
    try:
        return frame.collect_schema().names()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise unreadable(path, error) from None


def unreadable(path: Path | str, error: Exception) -> PalateError:
    """The error for a file that polars gives up on."""
    text = " ".join(str(error).split("\n\n")[0].split())
    remedy = "Save it as UTF-8." if "utf" in text.lower() else "Check the file and its separator."
    return PalateError(f"{path} cannot be read ({text})", remedy)
