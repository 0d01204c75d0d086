"""What an id is, for logs, catalogues, new items and vectors alike: text exactly as it stands, or a whole number."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import polars as pl

from palate.errors import PalateError

# Text that may stand for another id as well: pattern of all of it, what is wrong, what to do.
_AMBIGUOUS = (
    (r"[+-]?\d+\.0*", "may mean the whole number", "Write ids that are numbers without decimals."),
    (r"[+-]?\d+(\.\d+)?[eE]\+\d+", "is a number that was rounded", "Export the ids as text."),
)


def id_text(cell: pl.Expr, kind: pl.DataType, name: str, where: str) -> pl.Expr:
    """A column of ids as text.

    Args:
        name, where: of the column and its file, for messages.

    Raises:
        PalateError: it holds neither text nor whole numbers. 1 and 1.0 may or may not be two items.
    """
    if kind.is_integer() or kind in (pl.String, pl.Categorical, pl.Enum):
        return cell.cast(pl.String)
    raise PalateError(f"{where}: the column '{name}' holds {kind}", "Ids must be text or whole numbers.")


def check_ids(ids: pl.Series | Iterable[str | None], where: str, what: str = "item") -> None:
    """Refuse ids that may stand for another one: ``10.0`` for ``10``, ``1.23E+12`` for one of many.

    Args:
        ids: text; nulls are not looked at.
        what: of what they are the ids, for messages.
    """
    text = ids if isinstance(ids, pl.Series) else pl.Series(list(ids), dtype=pl.String)
    for pattern, wrong, remedy in _AMBIGUOUS:
        found = text.filter(text.str.contains(f"^{pattern}$").fill_null(False))
        if len(found):
            raise PalateError(f"{where}: the {what} id '{found[0]}' {wrong}", remedy)


def check_id(text: str, where: str, what: str = "item") -> str:
    """:func:`check_ids` of a single id, which is returned."""
    for pattern, wrong, remedy in _AMBIGUOUS:
        if re.fullmatch(pattern, text):
            raise PalateError(f"{where}: the {what} id '{text}' {wrong}", remedy)
    return text


def id_column(there: Sequence[str], usual: Sequence[str], where: str, remedy: str) -> str | None:
    """The column of ids among usual names; None where there is none.

    Args:
        usual: the first is Palate's own name, which wins over the others.

    Raises:
        PalateError: several could be meant.
    """
    if usual[0] in there:
        return usual[0]
    found = [name for name in usual if name in there]
    if len(found) > 1:
        raise PalateError(f"{where} has the columns {' and '.join(map(repr, found))}, and either may be the id", remedy)
    return found[0] if found else None
