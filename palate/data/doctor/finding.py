"""What a check reports."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from palate.console import agreeing, counted

SHOWN = 5


class Level(StrEnum):
    """How much a finding matters, from nothing to unusable."""

    OK = "ok"
    NOTE = "note"  # worth knowing; it limits what the data can show
    WARNING = "warning"  # probably not what was meant
    ERROR = "error"  # results on this dataset would be wrong


@dataclass(frozen=True)
class Finding:
    """One result of one check.

    Attributes:
        check: The check's name; ``palate doctor --json`` and the documentation use the same.
        level: See :class:`Level`.
        message: One or two sentences with the figures in them.
        count: How many of what the check looks at.
        share: The same as a share (0..1) of all of them, or None where that means nothing.
        examples: A few ids or file names to look at.
    """

    check: str
    level: Level
    message: str
    count: int = 0
    share: float | None = None
    examples: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def few(names: Iterable[object]) -> list[str]:
    """The first few, as strings."""
    shown: list[str] = []
    for name in names:
        if len(shown) == SHOWN:
            break
        shown.append(str(name))
    return shown


def those(count: int, one: str, share: float, verb: str, verbs: str) -> str:
    """The subject of a finding, with a verb that agrees with it.

    >>> those(1, "user", 0.002, "has", "have"), those(1200, "user", 0.5, "has", "have")
    ('1 user (0.2%) has', '1,200 users (50%) have')
    """
    return f"{counted(count, one)} ({percent(share)}) {agreeing(count, verb, verbs)}"


def percent(share: float) -> str:
    """A share for people; small ones keep a digit, and what is not nothing is never shown as 0%.

    >>> percent(0.513), percent(0.995), percent(0.00001), percent(0.0), percent(1.0)
    ('51%', '99.5%', '<0.1%', '0%', '100%')
    """
    if 0 < share < 0.001:
        return "<0.1%"
    value = 100 * share
    shown = f"{value:.1f}" if value < 10 or 99 < value < 100 else f"{value:.0f}"
    return f"{shown.removesuffix('.0')}%"
