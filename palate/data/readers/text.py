"""Lines and delimited text as lazy frames of strings, with the row number at hand when something is wrong."""

from __future__ import annotations

import csv
import gzip
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TextIO

import polars as pl

from palate.errors import PalateError
from palate.tables import scan_csv

_ROW = "__row"


@dataclass(frozen=True)
class Delimited:
    """A text table whose cells are still strings.

    Attributes:
        path: the file, for messages.
        frame: its columns as strings (null where empty) and ``__row``, the row number as an editor shows it.
        separator: one character.
        quoted: whether ``"`` encloses cells.
        width: cells in a row; None where the header line says it.
    """

    path: Path
    frame: pl.LazyFrame
    separator: str = ","
    quoted: bool = True
    width: int | None = None

    @property
    def columns(self) -> list[str]:
        return [name for name in columns_of(self.frame, self.path) if name != _ROW]

    def require(self, names: Iterable[str], remedy: str | None = None) -> None:
        """Refuse a table that lacks one of the columns."""
        there = self.columns
        for name in names:
            if name not in there:
                shown = ", ".join(there)
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

    def at(self, row: int) -> str:
        """The file and the row as an editor shows it of a row of the table (from 0), for messages."""
        return f"{self.path}, row {self.frame.slice(row, 1).select(_ROW).collect().item()}"

    def explain(self, row: int | None, columns: Mapping[str, str]) -> PalateError | None:
        """Say what is wrong in a row (from 0) in which one of the columns came out null.

        Args:
            row: None where the file could not be read at all; the answer is None where that is not a row's fault.
        """
        if row is None:
            return self._too_wide()
        cells = self.frame.slice(row, 1).collect().to_dicts()[0]
        at = f"{self.path}, row {cells[_ROW]}"
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
            rows = csv.reader(
                file, delimiter=self.separator, quoting=csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE
            )
            first = next(rows, [])
            width = self.width or len(first)
            try:
                for row in chain([first], rows):
                    if len(row) > width:
                        return PalateError(
                            f"{self.path}, row {rows.line_num}: {len(row)} cells, not {width}",
                            "Correct the row; a cell that holds the separator must be in double quotes.",
                        )
            except csv.Error:
                return None
        return None


def scan_delimited(path: Path, separator: str, names: Sequence[str] | None = None, quoted: bool = True) -> Delimited:
    """Open a delimited text file without reading it.

    Args:
        names: column names of a file without a header line.
        quoted: whether ``"`` encloses cells.
    """
    if path.stat().st_size == 0:
        raise PalateError(f"{path} is empty", "Check the file.")
    frame = scan_csv(
        path,
        separator=separator,
        has_header=names is None,
        schema=dict.fromkeys(names, pl.String) if names else None,
        infer_schema=False,
        quote_char='"' if quoted else None,
        row_index_name=_ROW,
        row_index_offset=1 if names else 2,
    )
    cells = pl.all_horizontal(pl.all().exclude(_ROW).is_null())
    # A blank line is no row.
    return Delimited(path, frame.filter(~cells), separator, quoted, len(names) if names else None)


def scan_lines(path: Path) -> pl.LazyFrame:
    """The lines of a UTF-8 text file that are not blank, as the column ``line``, in order."""
    if path.stat().st_size == 0:
        raise PalateError(f"{path} is empty", "Check the file.")
    # No text file has this separator, so a line is one cell.
    frame = scan_csv(path, separator="\x01", has_header=False, schema={"line": pl.String}, quote_char=None)
    return frame.filter(pl.col("line").str.strip_chars().str.len_bytes() > 0)


def open_text(path: Path) -> TextIO:
    """A text file, or one packed by gzip, as UTF-8; what is not UTF-8 becomes a replacement mark."""
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", errors="replace", newline="")
    return path.open(encoding="utf-8-sig", errors="replace", newline="")


def read_text(path: Path) -> str:
    """The text of a small file: UTF-8, or else Latin-1 as in the older MovieLens files."""
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


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
