"""Markup in which text is text: whatever is not made here by :func:`tag` is escaped, so a title can never be code."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from typing import TypeAlias

# Signs that turn the reading direction of what follows, also outside of the text that they stand in.
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_EMPTY = frozenset({"img", "meta", "br", "hr", "col"})
# Not the space that keeps words together on a line.
_SPACE = re.compile(r"[ \t\n\r\f\v\x1c-\x1f\x85\u2028\u2029]+")
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9-]*")


class Html(str):
    """Markup that may be written as it is. Only this module's functions make it from anything else."""

    __slots__ = ()


Child: TypeAlias = "Html | str | int | float | Iterable[Child] | None"


def clean(text: str) -> str:
    """Text without control characters, turning signs and halves of characters; white space becomes one space.

    >>> clean("Blue\\nshoe \\u202egnp.exe\\x00")
    'Blue shoe \ufffdgnp.exe\ufffd'
    """
    text = _SPACE.sub(" ", text).strip(" ")
    return "".join(
        "\ufffd"
        if char in _TURNING or ord(char) < 32 or 0x7F <= ord(char) < 0xA0 or 0xD800 <= ord(char) < 0xE000
        else char
        for char in text
    )


def join(*children: Child) -> Html:
    """Children one after another.

    >>> join("a < b", None, [tag("b", 1)])
    'a &lt; b<b>1</b>'
    """
    return Html("".join(_parts(children)))


def tag(name: str, /, *children: Child, **attributes: str | int | float | bool | None) -> Html:
    """An element. Attributes that are None or False are left out; ``_`` in their names stands for ``-``.

    >>> tag("p", "x & y", class_="note", hidden=True)
    '<p class="note" hidden>x &amp; y</p>'
    >>> tag("img", alt='"><script>')
    '<img alt="&quot;&gt;&lt;script&gt;">'
    """
    words = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        if not _NAME.fullmatch(key):
            raise ValueError(f"{key!r} is no name of an attribute")
        words.append(key if value is True else f'{key}="{escape(clean(str(value)), quote=True)}"')
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of an element")
    opened = f"<{' '.join(words)}>"
    return Html(opened) if name in _EMPTY else Html(f"{opened}{join(*children)}</{name}>")


def outside(text: object) -> Html:
    """Text from outside (a title, an id, a model's words): isolated, so that its direction stays its own.

    >>> outside("<b>")
    '<bdi>&lt;b&gt;</bdi>'
    """
    return tag("bdi", str(text))


def _parts(children: Iterable[Child]) -> Iterable[str]:
    for child in children:
        if child is None:
            continue
        if isinstance(child, Html):
            yield child
        elif isinstance(child, str | int | float):
            yield escape(clean_ends(str(child)), quote=True)
        else:
            yield from _parts(child)


def clean_ends(text: str) -> str:
    """:func:`clean`, with a space kept at either end: words beside an element stay apart from it."""
    inner = clean(text)
    before = " " if text[:1].isspace() else ""
    after = " " if text[-1:].isspace() and inner else ""
    return f"{before}{inner}{after}"
