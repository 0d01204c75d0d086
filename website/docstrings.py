"""Docstrings of the code as Markdown: roles of reStructuredText become links, literal blocks become code."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

# :func:`name`, :class:`~package.name`, :mod:`words <package.name>`
_ROLE = re.compile(r":(?:func|class|meth|mod|data|attr|exc):`(~?)(?:([^`<]+) <)?([\w.]+)>?`")


def markdown(text: str) -> str:
    """
    >>> markdown("See :func:`~palate.data.prepare.prepare`::")
    'See <autoref identifier="palate.data.prepare.prepare" optional><code>prepare</code></autoref>:'
    """
    return re.sub(r"::$", ":", _ROLE.sub(_link, text), flags=re.M)


def _link(role: re.Match[str]) -> str:
    short, words, name = role.groups()
    shown = words or (name.rpartition(".")[2] if short or name.startswith("palate.") else name)
    return f'<autoref identifier="{name}" optional><code>{shown}</code></autoref>'


class MarkdownDocstrings(Extension):
    """Rewrites every docstring once, when its object has been read."""

    def on_instance(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)
