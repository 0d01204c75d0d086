"""The console of all commands, and how it shows facts: names that users chose appear letter by letter."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.text import Text

_QUIET = "PALATE_QUIET"


@dataclass(frozen=True)
class Table:
    """Cells as text; every row as long as the headers."""

    title: str
    headers: list[str]
    rows: list[list[str]]


def open_console(**options: Any) -> Console:
    """A console that takes ``[...]`` and ``:word:`` as they stand, in lines, tables and titles alike.

    Paths, runs and titles such as ``knn[lr=0.1]`` or ``x[/b]`` are no markup. What is to be coloured has a ``style``
    or is a ``rich.text.Text``.

    Args:
        options: of ``rich.console.Console``.

    >>> open_console(width=40).print("Run: runs/knn[lr=0.1]/x[/b]:cat:")
    Run: runs/knn[lr=0.1]/x[/b]:cat:
    """
    return _Console(markup=False, emoji=False, **options)


# How texts are spelt before they are folded and coloured: the command line has copies of URLs named by their URLs.
spelling: Callable[[str], str] = str


@contextmanager
def spelt(by: Callable[[str], str]) -> Iterator[None]:
    """Spell what consoles print in another way while the block runs."""
    global spelling
    before, spelling = spelling, by
    try:
        yield
    finally:
        spelling = before


class _Console(Console):
    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(spelling(one) if isinstance(one, str) else one for one in objects), **options)


def print_warning(console: Console, text: str) -> None:
    """One warning, on one line however narrow the terminal is."""
    console.print(Text.assemble(("Warning:", "yellow"), f" {text}"), soft_wrap=True)


def is_quiet() -> bool:
    """Whether only results, warnings and errors are printed: ``--quiet``, or ``PALATE_QUIET`` in the environment."""
    return os.environ.get(_QUIET, "") not in ("", "0")


def be_quiet() -> None:
    """Print only results, warnings and errors from now on, here and in processes that are started from here."""
    os.environ[_QUIET] = "1"


@contextmanager
def quiet_kept() -> Iterator[None]:
    """What a command says of being quiet ends with it."""
    before = os.environ.get(_QUIET)
    try:
        yield
    finally:
        os.environ.pop(_QUIET, None)
        if before is not None:
            os.environ[_QUIET] = before


def print_note(text: str) -> None:
    """A line on standard error that is good to know and that nobody has to read; nothing with ``--quiet``."""
    if not is_quiet():
        print(text, file=sys.stderr, flush=True)


def plain(text: str) -> str:
    """Text from outside without control characters, which could steer a terminal.

    >>> plain("Blue\\x1b[31m shoe\\n")
    'Blue?[31m shoe?'
    """
    return "".join(char if char.isprintable() else "?" for char in text)


def counted(count: int, one: str, many: str | None = None) -> str:
    """A number with its noun.

    Args:
        many: the plural, where it is not ``one`` with an s.

    >>> counted(1, "item"), counted(2400, "item"), counted(0, "history", "histories")
    ('1 item', '2,400 items', '0 histories')
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def agreeing(count: int, one: str, many: str) -> str:
    """The form of a verb that goes with a number.

    >>> agreeing(1, "has", "have"), agreeing(2, "has", "have")
    ('has', 'have')
    """
    return one if count == 1 else many


def human_bytes(size: int) -> str:
    """
    >>> human_bytes(1_500_000)
    '1.5 MB'
    """
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            break
        amount /= 1000
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"


def print_facts(title: str, facts: Mapping[str, Any]) -> None:
    """A table of facts; nested ones are indented under their name, spelt as in files and options."""
    from rich.table import Table as RichTable

    console = open_console()
    console.print(Text(plain(title), style="bold"), soft_wrap=True)
    table = RichTable(show_header=False, box=None)
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _flat(facts):
        table.add_row(name, Text(value))
    console.print(table)


def _flat(facts: Mapping[str, Any], indent: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in facts.items():
        label = indent + plain(str(name))
        label = label if indent else label.replace("_", " ")
        if isinstance(value, Mapping) and value:
            rows += [(label, ""), *_flat(value, indent + "  ")]
        elif isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
            rows.append((label, ""))
            rows += [(indent + "  -", ", ".join(f"{k} {_text(v)}" for k, v in one.items())) for one in value]
        elif value not in (None, {}, []):
            rows.append((label, _text(value)))
    return rows


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(_text(one) for one in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(one)}" for key, one in value.items())
    return plain(str(value))


def print_table(table: Table) -> None:
    """The table, folded to the terminal; whole where the output is a file or a pipe."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    console = open_console(highlight=False)
    if not console.is_terminal:
        console = open_console(highlight=False, width=10_000)  # a file or a pipe: nothing to fold for
    for number, part in enumerate(_fit(table, console.width)):
        title = None if number else Text(part.title)
        drawn = RichTable(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for column, header in enumerate(part.headers):
            drawn.add_column(Text(header), justify="right" if column else "left", overflow="fold")
        for row in part.rows:
            drawn.add_row(*(Text(cell) for cell in row))
        console.print(drawn)


def _fit(table: Table, width: int) -> list[Table]:
    """The table, or, where that is too wide, with intervals on lines of their own and in several parts."""

    def widths(headers: list[str], rows: list[list[str]]) -> list[int]:
        columns = zip(headers, *rows, strict=True)
        return [2 + max(len(line) for cell in column for line in cell.split("\n")) for column in columns]

    if sum(widths(table.headers, table.rows)) <= width:
        return [table]
    headers = [header.replace(" [", "\n[").replace("minus ", "minus\n") for header in table.headers]
    rows = [[row[0], *(cell.replace(" [", "\n[") for cell in row[1:])] for row in table.rows]
    first, *others = widths(headers, rows)
    parts: list[list[int]] = [[]]
    used = first
    for column, needed in enumerate(others, 1):
        if parts[-1] and used + needed > width:
            parts.append([])
            used = first
        parts[-1].append(column)
        used += needed
    return [
        Table(
            table.title, [headers[0], *(headers[c] for c in part)], [[row[0], *(row[c] for c in part)] for row in rows]
        )
        for part in parts
    ]
