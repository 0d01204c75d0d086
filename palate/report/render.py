"""Templates filled in: whatever a template shows is escaped and cleaned first, so a title can never be code."""

from __future__ import annotations

import re
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from palate.report import numbers
from palate.report.charts import colour_class

# Signs that turn the reading direction of what follows, also outside of the text that they stand in.
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# Not the space that keeps words together on a line.
_SPACE = re.compile(r"[ \t\n\r\f\v\x1c-\x1f\x85\u2028\u2029]+")


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


def _finalize(value: Any) -> Any:
    """What an expression of a template shows, before it is escaped: None is empty, markup of a template stays."""
    if value is None:
        return ""
    return value if isinstance(value, Markup) else clean(str(value))


ENVIRONMENT = Environment(
    loader=PackageLoader("palate.report"),
    autoescape=True,
    undefined=StrictUndefined,
    finalize=_finalize,
    trim_blocks=True,
    lstrip_blocks=True,
)
ENVIRONMENT.filters.update(
    colour=colour_class,
    count=numbers.count,
    figure=numbers.figure,
    share=numbers.share,
)


def render(template: str, **view: Any) -> Markup:
    """A file of ``templates`` filled in.

    Raises:
        jinja2.UndefinedError: the template reads something that ``view`` lacks.
    """
    return Markup(ENVIRONMENT.get_template(template).render(view))
