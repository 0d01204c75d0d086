"""Lists of what an item is read by, as the command line writes them."""

from __future__ import annotations

from palate.names import comma_separated
from palate.training.content import AUTO, Names

NONE = "none"


def listed(names: str) -> tuple[str, ...]:
    """Names between commas; ``none`` is no name.

    >>> listed("id, text,"), listed("none")
    (('id', 'text'), ())
    """
    return () if names.strip() == NONE else tuple(comma_separated(names))


def listed_or_auto(names: str) -> Names:
    """Names between commas, or ``auto``, which :func:`palate.training.content.choose_content` resolves.

    >>> listed_or_auto("id,text"), listed_or_auto("auto")
    (('id', 'text'), 'auto')
    """
    return AUTO if names.strip() == AUTO else listed(names)
