"""Names that users write in lists: columns, fields. One with a comma or outer blanks goes in double quotes."""

from __future__ import annotations

import re
from collections.abc import Iterable

from palate.errors import PalateError

_PART = re.compile(r'(?:[^",]|"(?:[^"]|"")*")*')


def split_names(text: str, option: str) -> list[str]:
    """The parts of a list between commas, without the blanks around them; quotes stay, see :func:`unquoted_name`.

    >>> split_names('title, "Customer, ID"', "--fields")
    ['title', '"Customer, ID"']

    Raises:
        PalateError: a quote is not closed.
    """
    parts, place = [], 0
    while place <= len(text):
        end = _PART.match(text, place).end()  # type: ignore[union-attr]
        if end < len(text) and text[end] != ",":
            raise PalateError(f"{option} {text}: a double quote is not closed", 'Write names as in "Customer, ID".')
        parts.append(text[place:end].strip())
        place = end + 1
    return parts


def unquoted_name(name: str) -> str:
    """A name as it is, of one that may be in double quotes (in which a double quote is written twice).

    >>> unquoted_name('" sku"'), unquoted_name("sku")
    (' sku', 'sku')
    """
    if len(name) > 1 and name[0] == name[-1] == '"':
        return name[1:-1].replace('""', '"')
    return name


def quoted_name(name: str) -> str:
    """A name as it has to be written in a list.

    >>> quoted_name("sku"), quoted_name(" sku"), quoted_name("Customer, ID")
    ('sku', '" sku"', '"Customer, ID"')
    """
    plain = name == name.strip() != "" and "," not in name and '"' not in name
    return name if plain else '"' + name.replace('"', '""') + '"'


def field_names(text: str, option: str) -> list[str]:
    """The names of a list between commas; empty parts are left out.

    >>> field_names('genres, "Customer, ID",', "--fields")
    ['genres', 'Customer, ID']
    """
    return [unquoted_name(part) for part in split_names(text, option) if part]


def comma_separated(text: str) -> list[str]:
    """The parts of a list between commas, without the blanks around them; empty ones are left out.

    >>> comma_separated("lexical, text,")
    ['lexical', 'text']
    """
    return [part.strip() for part in text.split(",") if part.strip()]


def free_name(name: str, taken: Iterable[str]) -> str:
    """``name``, or with underscores before it what is not taken."""
    taken = set(taken)
    while name in taken:
        name = f"_{name}"
    return name
