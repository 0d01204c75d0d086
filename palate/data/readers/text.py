"""Lines and delimited text as lazy frames of strings, with the row number at hand when something is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from palate.errors import PalateError

_ROW = "__row"


@dataclass(frozen=True)
class Delimited:
    """A text table whose cells are still strings.

    Attributes:
        path: the file, for messages.
        frame: its columns as strings (null where empty) and ``__row``, the row number as an editor shows it.
    """

    path: Path
    frame: pl.LazyFrame

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

    def interactions(self, columns: Mapping[str, str], floats: bool = False) -> pl.LazyFrame:
        """The columns as ``user``, ``item``, ``timestamp``, ``weight``; null where a number cannot be read.

        Args:
            columns: our name -> name in the table.
            floats: whether times may have decimals.
        """
        number = pl.Float64 if floats else pl.Int64
        types = {"timestamp": number, "weight": pl.Float32}
        self.require(columns.values())
        return self.frame.select(
            **{
                ours: pl.col(theirs).cast(types[ours], strict=False) if ours in types else pl.col(theirs)
                for ours, theirs in columns.items()
            }
        )

    def explain(self, row: int, columns: Mapping[str, str]) -> PalateError:
        """Say what is wrong in a row (from 0) in which one of the columns came out null."""
        cells = self.frame.slice(row, 1).collect().to_dicts()[0]
        at = f"{self.path}, row {cells[_ROW]}"
        for ours, theirs in columns.items():
            value = cells[theirs]
            if value is None or not value.strip():
                return PalateError(f"{at}: no value in column '{theirs}'", f"Every interaction needs its {ours}.")
            if ours in ("timestamp", "weight") and not _is_number(value, whole=ours == "timestamp"):
                return PalateError(
                    f"{at}: '{value}' in column '{theirs}' is not a number", "Correct or remove the row."
                )
        return PalateError(f"{at}: cannot be read", "Correct or remove the row.")


def _is_number(text: str, whole: bool) -> bool:
    kind = pl.Int64 if whole else pl.Float32
    number = pl.Series([text]).cast(kind, strict=False)[0]
    return number is not None and number == number  # not NaN


def scan_delimited(path: Path, separator: str, names: Sequence[str] | None = None, quoted: bool = True) -> Delimited:
    """Open a delimited text file without reading it.

    Args:
        names: column names of a file without a header line.
        quoted: whether ``"`` encloses cells.
    """
    if path.stat().st_size == 0:
        raise PalateError(f"{path} is empty", "Check the file.")
    frame = pl.scan_csv(
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
    return Delimited(path, frame.filter(~cells))  # a blank line is no row


def scan_lines(path: Path) -> pl.LazyFrame:
    """The lines of a UTF-8 text file that are not blank, as the column ``line``, in order."""
    if path.stat().st_size == 0:
        raise PalateError(f"{path} is empty", "Check the file.")
    # No text file has this separator, so a line is one cell.
    frame = pl.scan_csv(path, separator="\x01", has_header=False, schema={"line": pl.String}, quote_char=None)
    return frame.filter(pl.col("line").str.strip_chars().str.len_bytes() > 0)


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
