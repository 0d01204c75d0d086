"""Tables that sort: what is shown in a cell, and what it is sorted by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from palate.report.markup import Child, Html, tag


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        value: what it is sorted by; None: nothing is known, which comes last whichever way it is sorted.
    """

    shown: Child
    value: float | str | None = None
    class_: str | None = None


@dataclass(frozen=True)
class Row:
    """A row; its first cell is its heading."""

    cells: Sequence[Cell]
    class_: str | None = None


def table(caption: str, headers: Sequence[str], rows: Sequence[Row], *, sorts: bool = True, text: int = 1) -> Html:
    """A table in a box of its own that scrolls sideways where the screen is narrow.

    Args:
        text: so many of the first columns are text; the others are numbers and stand to the right.
    """
    head = [tag("th", name, scope="col", class_=None if place < text else "n") for place, name in enumerate(headers)]
    body = [
        tag("tr", [_cell(place, cell, text) for place, cell in enumerate(row.cells)], class_=row.class_) for row in rows
    ]
    made = tag(
        "table", tag("thead", tag("tr", head)), tag("tbody", body), class_="sorts" if sorts and len(rows) > 1 else None
    )
    # The box can be scrolled with the keyboard, so it can have the focus and has a name.
    box = tag("div", made, class_="scroll", role="region", aria_label=caption, tabindex=0)
    return tag("figure", tag("figcaption", caption), box, class_="table")


def _cell(place: int, cell: Cell, text: int) -> Html:
    name, scope = ("th", "row") if place == 0 else ("td", None)
    classes = " ".join(filter(None, ["n" if place >= text else None, cell.class_])) or None
    value = "" if cell.value is None else cell.value
    return tag(name, cell.shown, scope=scope, class_=classes, data_v=value)
