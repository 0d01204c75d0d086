"""The lines of a text file as they are written, for messages about one of them."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TextIO, cast


def open_text(path: Path) -> TextIO:
    """A text file, or one packed by gzip, as UTF-8; what is not UTF-8 becomes a replacement mark.

    Lines end with a line feed (and perhaps a carriage return before it), as they do for polars.
    """
    return io.TextIOWrapper(_open(path), encoding="utf-8-sig", errors="replace", newline="\n")


def holds(path: Path, text: str) -> bool:
    """Whether an ASCII character is anywhere in the file."""
    sought = text.encode()
    with _open(path) as file:
        return any(sought in block for block in iter(lambda: file.read(1 << 20), b""))


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb"))


def row_starts(path: Path, quote: str | None) -> Iterator[int]:
    """The line (from 1) in which each row of a delimited file begins, the header line first.

    A blank line is a row (polars counts it as one of nulls), except before the first.

    Args:
        quote: the character that encloses cells, in which a line may end; None where there is none.
    """
    inside = begun = False
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            if not inside and (begun or line.strip("\r\n")):
                begun = True
                yield number
            if quote is not None and line.count(quote) % 2:
                inside = not inside
