"""Whether the quotes in a delimited file enclose cells or are text like any other character."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from string import punctuation

import polars as pl

from palate.data.readers.lines import holds, open_text
from palate.errors import PalateError
from palate.storage.tables import scan_csv

AUTO, NONE = "auto", "none"
_USUAL = '"'
_TEXT = "read quotes as text: --quote none"


def check_quote(quote: str) -> str:
    """Refuse what is not ``auto``, ``none`` or one punctuation character."""
    if quote not in (AUTO, NONE) and quote not in tuple(punctuation):
        raise PalateError(f"--quote {quote} is not a character", "Give auto, none, or one character such as '\"'.")
    return quote


def find_quote(path: Path, separator: str, quote: str = AUTO) -> str | None:
    """The character that encloses cells of a file; None where quotes are text.

    Args:
        quote: a character, ``none``, or ``auto``: double quotes, unless no cell begins with one (``24" screen``), or
            some cell of a file split by tabs begins with one and does not end with one in its line.

    Raises:
        PalateError: a cell is not quoted as it has to be, naming the row; a quote that is not closed in its row seems
            to swallow the rows after it (``auto`` only).
    """
    if quote == NONE:
        return None
    character = _USUAL if quote == AUTO else quote
    grammar = _Grammar.of(separator, character)
    if not holds(path, character) or _simple(path, character, grammar):
        return character
    seen = _walk(path, separator, character, grammar)
    if quote == AUTO and (not seen.begins or separator == "\t"):
        return None
    if seen.broken is not None:
        raise PalateError(
            f"{path}, row {seen.broken}: a quote ({character}) stands in the middle of a cell, or is not closed",
            f"Write it twice within a cell in quotes, or {_TEXT}.",
        )
    if quote == AUTO and seen.alike * 2 > seen.long:
        raise PalateError(
            f"{path}, row {seen.swallows}: a quote ({character}) opens a cell that is closed only in another row",
            f"If that is one cell of several lines, say --quote '{character}'; else {_TEXT}.",
        )
    return character


@dataclass(frozen=True)
class _Grammar:
    """Patterns of a line: one whose quotes are all closed, and those that begin, go on with or end a longer cell."""

    whole: re.Pattern[str]
    opens: re.Pattern[str]
    goes_on: re.Pattern[str]
    closes: re.Pattern[str]
    closes_and_opens: re.Pattern[str]
    begins: re.Pattern[str]

    @classmethod
    def of(cls, separator: str, quote: str) -> _Grammar:
        s, q = (f"\\x{ord(character):02x}" for character in (separator, quote))
        text = f"(?:[^{q}]|{q}{q})*"
        cell = f"(?:{q}{text}{q}|[^{q}{s}]*)"
        return cls(
            whole=re.compile(f"^{cell}(?:{s}{cell})*$"),
            opens=re.compile(f"(?:{cell}{s})*{q}{text}$"),
            goes_on=re.compile(f"{text}$"),
            closes=re.compile(f"{text}{q}(?:{s}{cell})*$"),
            closes_and_opens=re.compile(f"{text}{q}(?:{s}{cell})*{s}{q}{text}$"),
            begins=re.compile(f"(?:^|{s}){q}"),
        )


def _simple(path: Path, quote: str, grammar: _Grammar) -> bool:
    """Whether every quoted cell is closed in its line."""
    lines = scan_csv(path, separator="\x01", has_header=False, schema={"line": pl.String}, quote_char=None)
    line = pl.col("line")
    odd = line.str.contains(quote, literal=True) & ~line.str.contains(grammar.whole.pattern)
    try:
        return not lines.select(odd.any()).collect(engine="streaming").item()
    except pl.exceptions.PolarsError:
        return True  # not UTF-8, for example: reading the file says so


@dataclass
class _Seen:
    """What the lines of a file show.

    Attributes:
        begins: whether any cell begins with a quote.
        broken: the first row with a quote that is neither around a cell nor doubled in one, or that is never closed.
        long: how many rows have a cell of several lines.
        alike: in how many of them each line has as many separators as the first line of the file, as if they were
            rows of their own.
        swallows: the first of those.
    """

    begins: bool = False
    broken: int | None = None
    long: int = 0
    alike: int = 0
    swallows: int | None = None


def _walk(path: Path, separator: str, quote: str, grammar: _Grammar) -> _Seen:
    seen = _Seen()
    start, alike, width = None, True, None  # the row whose cell is open, and whether its lines look like rows
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            line = line.rstrip("\r\n")
            count = line.count(separator)
            width = count if width is None else width
            if start is None and quote not in line:
                continue
            seen.begins = seen.begins or grammar.begins.search(line) is not None
            if start is None:
                if grammar.whole.fullmatch(line):
                    continue
                start, alike = number, True
                sound = grammar.opens.fullmatch(line) is not None
            else:
                sound = any(one.fullmatch(line) for one in (grammar.goes_on, grammar.closes, grammar.closes_and_opens))
            alike = alike and count == width > 0
            if not sound:
                seen.broken, start = seen.broken or start, None
            elif start != number and grammar.closes.fullmatch(line):
                seen.long, seen.alike = seen.long + 1, seen.alike + alike
                seen.swallows = seen.swallows or (start if alike else None)
                start = None
    seen.broken = seen.broken or start
    return seen
