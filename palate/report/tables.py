"""Tables that sort: what is shown in a cell, and what it is sorted by. ``templates/tables.html.j2`` draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        value: what it is sorted by; None: nothing is known, which comes last whichever way it is sorted.
        element: ``bdi`` for text from outside (a label, an id), so that its direction stays its own.
        note: shown small behind the text.
        chip: a word in a chip behind the text; a row whose first cell has one stands out.
        verdict: of a difference that is clear.
    """

    text: str | int
    value: float | str | None = None
    element: Literal["bdi", "code"] | None = None
    note: str = ""
    chip: str = ""
    verdict: Literal["better", "worse"] | None = None


@dataclass(frozen=True)
class TableView:
    """A table; the first cell of a row is its heading.

    Attributes:
        sorts: whether readers can sort it.
        text_columns: how many of the first columns are text; the others are numbers and stand to the right.
    """

    caption: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    sorts: bool = True
    text_columns: int = 1
