"""How commands show facts to people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def plain(text: str) -> str:
    """Text from outside without control characters, which could steer a terminal.

    >>> plain("Blue\\x1b[31m shoe\\n")
    'Blue?[31m shoe?'
    """
    return "".join(char if char.isprintable() else "?" for char in text)


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
    from rich.table import Table
    from rich.text import Text

    from palate.console import open_console

    console = open_console()
    console.print(Text(plain(title), style="bold"), soft_wrap=True)
    table = Table(show_header=False, box=None)
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
