"""A catalogue's columns as every later step expects them: known types, missing text as null, bounded lengths."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import polars as pl

from palate.data.catalogue import RESERVED

# Far above any title or description that people write; one page pasted into a title would make every report huge.
MAX_TITLE = 10_000
MAX_TEXT = 100_000
_NO_TEXT = ("item_id", "image")


def tidy(frame: pl.DataFrame, *, clean_text: bool = False) -> tuple[pl.DataFrame, dict[str, Any]]:
    """The frame with the columns that can be kept, and what had to change.

    Fields are text, numbers, truth values, dates, or lists of these; other columns (bytes, structs, lists of lists) are
    left out. Categories become text. Blank text and empty lists become null, blank entries of a list go. Titles
    are cut at ``MAX_TITLE`` characters, other texts and entries at ``MAX_TEXT``.

    Args:
        clean_text: also take HTML tags and entities out of titles and texts (:func:`plain_text`).

    Returns:
        The frame, and a report: ``columns_left_out`` (names and types), ``titles_cut``, ``texts_cut``,
        ``texts_cleaned`` (cells), each only where it is not nothing.
    """
    left = {name: kind for name, kind in frame.schema.items() if name not in RESERVED and not _is_supported(kind)}
    frame = frame.drop(left).with_columns(_plain(name, kind) for name, kind in frame.schema.items() if name not in left)
    report: dict[str, Any] = {}
    if left:
        report["columns_left_out"] = ", ".join(f"{name} ({kind})" for name, kind in left.items())
    counts = {"titles_cut": 0, "texts_cut": 0, "texts_cleaned": 0}
    for name, kind in frame.schema.items():
        if name in _NO_TEXT or kind not in (pl.String, pl.List(pl.String)):
            continue
        column = frame[name]
        if clean_text:
            column, changed = _cleaned(column)
            counts["texts_cleaned"] += changed
        limit = MAX_TITLE if name == "title" else MAX_TEXT
        counts["titles_cut" if name == "title" else "texts_cut"] += _longer(column, limit)
        frame = frame.with_columns(_without_blanks(column, limit))
    return frame, report | {name: count for name, count in counts.items() if count}


def _is_supported(kind: pl.DataType) -> bool:
    if isinstance(kind, pl.List | pl.Array):
        inner = kind.inner
        return isinstance(inner, pl.DataType) and not isinstance(inner, pl.List | pl.Array) and _is_supported(inner)
    return kind.is_numeric() or kind.is_temporal() or kind in (pl.String, pl.Categorical, pl.Enum, pl.Boolean, pl.Null)


def _plain(name: str, kind: pl.DataType) -> pl.Expr:
    """Categories and columns of nulls as text, arrays as lists."""
    cell, words = pl.col(name), (pl.Categorical, pl.Enum, pl.Null)
    if isinstance(kind, pl.Array):
        cell, kind = cell.arr.to_list(), pl.List(kind.inner)
    if isinstance(kind, pl.List):
        return cell.cast(pl.List(pl.String)) if kind.inner in words else cell
    return cell.cast(pl.String) if kind in words else cell


def _without_blanks(column: pl.Series, limit: int) -> pl.Series:
    cell, entry = pl.col(column.name), pl.element()
    if column.dtype == pl.String:
        made = pl.when(cell.str.strip_chars() != "").then(cell.str.slice(0, limit))
    else:
        entries = cell.list.eval(entry.filter(entry.str.strip_chars() != "").str.slice(0, limit))
        made = pl.when(entries.list.len() > 0).then(entries)
    return column.to_frame().select(made.alias(column.name))[column.name]


def _longer(column: pl.Series, limit: int) -> int:
    """Cells with more characters than the limit in the text, or in an entry of the list."""
    if column.dtype == pl.String:
        return int((column.str.len_chars() > limit).sum())
    return int(column.list.eval(pl.element().str.len_chars() > limit).list.any().sum())


def _cleaned(column: pl.Series) -> tuple[pl.Series, int]:
    """The column without HTML, and how many cells that changed."""
    clean: Callable[[Any], Any] = _clean_list if column.dtype != pl.String else plain_text
    before = column.to_list()
    after = [None if cell is None else clean(cell) for cell in before]
    changed = sum(old != new for old, new in zip(before, after, strict=True))
    return pl.Series(column.name, after, column.dtype), changed


def _clean_list(entries: list[str | None]) -> list[str | None]:
    return [None if entry is None else plain_text(entry) for entry in entries]


_HIDDEN = ("script", "style")


# Shops escape text twice at times: "&amp;quot;".
_ROUNDS = 2


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.hidden += tag in _HIDDEN
        self.parts.append(" ")

    def handle_endtag(self, tag: str) -> None:
        self.hidden = max(0, self.hidden - (tag in _HIDDEN))
        self.parts.append(" ")

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.parts.append(data)


def plain_text(text: str) -> str:
    """Text without tags, scripts and entities, blanks in a row as one.

    >>> plain_text("<b>Tom &amp;amp; Jerry</b><br/>3 < 4 &lt;i&gt;new&lt;/i&gt;<script>x()</script>")
    'Tom & Jerry 3 < 4 new'
    """
    for _ in range(_ROUNDS):
        if "<" not in text and "&" not in text:
            break
        parser = _Text()
        parser.feed(text)
        parser.close()
        text = "".join(parser.parts)
    return " ".join(text.split())
