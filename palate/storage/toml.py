"""TOML in and out: recipes are read, and settings written so that they can be read again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from palate.storage.small_files import parse_toml, read_small

_MOST_BYTES = 16 * 1024 * 1024


def read_toml(path: Path | str) -> dict[str, Any]:
    """Read a TOML file; a missing or broken one is a clear error."""
    return parse_toml(read_small(path, "Check --config.", _MOST_BYTES), str(path), "Correct the file.")


def to_toml(value: Any) -> str:
    """A TOML literal for a value that was read from TOML.

    >>> to_toml([1, "a\\n", True, {"low": 0.1}])
    '[1, "a\\\\n", true, {low = 0.1}]'
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(to_toml(item) for item in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)} = {to_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, str):
        return '"' + "".join(_escaped(char) for char in value) + '"'
    return repr(value)


def write_tables(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """TOML text of tables; a table within a table gets its own header, a None is left out.

    >>> print(write_tables({"train": {"model": "sasrec", "out": None, "ranker": {"dim": 64}}}), end="")
    [train]
    model = "sasrec"
    <BLANKLINE>
    [train.ranker]
    dim = 64
    """
    blocks: list[str] = []
    for name, table in tables.items():
        rows = [f"{_key(k)} = {to_toml(v)}\n" for k, v in table.items() if not isinstance(v, Mapping) and v is not None]
        if rows:
            blocks.append(f"[{name}]\n{''.join(rows)}")
        inner = {f"{name}.{_key(key)}": value for key, value in table.items() if isinstance(value, Mapping)}
        if any(inner.values()):
            blocks.append(write_tables(inner))
    return "\n".join(blocks)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else to_toml(key)


def _escaped(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(char) or (f"\\u{ord(char):04x}" if ord(char) < 32 else char)
