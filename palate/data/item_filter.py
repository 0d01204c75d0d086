"""Which items may be recommended: conditions on their fields, and lists of their ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from palate.data.catalogue import Catalogue
from palate.data.conditions import Mask, allowed_items
from palate.errors import PalateError


@dataclass(frozen=True)
class ItemFilter:
    """What is left of a catalogue.

    Attributes:
        mask: bool ``[num_items + 1]``, padding False; None: every item may be recommended.
        unknown: ids of the lists that the catalogue does not have; they were left out.
    """

    mask: Mask | None
    unknown: list[str]


def filter_items(
    catalogue: Catalogue,
    *,
    only: Sequence[str] = (),
    without: Sequence[str] = (),
    allow: Iterable[str] | None = None,
    deny: Iterable[str] = (),
) -> ItemFilter:
    """Apply the four ways to narrow recommendations, called the same in the service and in ``palate recommend``.

    Args:
        only: conditions (:mod:`palate.data.conditions`); an item must meet all of them.
        without: conditions of which an item must meet none.
        allow: ids of the items that may be recommended; None: all.
        deny: ids of items that may not.

    Raises:
        PalateError: what :func:`palate.data.conditions.allowed_items` refuses, a text in place of a list, or no item is
            left.
    """
    for name, value in (("only", only), ("without", without), ("allow", allow), ("deny", deny)):
        if isinstance(value, str):  # whose letters would be taken for entries
            raise PalateError(f"{name} is the text '{value}', and a list is needed", f"Write {name}=['{value}'].")
    mask = allowed_items(catalogue.frame, only, without)
    unknown: list[str] = []
    if allow is not None:
        allowed = np.zeros(len(catalogue) + 1, np.bool_)
        allowed[_known(catalogue, allow, unknown)] = True
        mask = allowed if mask is None else mask & allowed
    denied = _known(catalogue, deny, unknown)
    if denied:
        mask = np.arange(len(catalogue) + 1) > 0 if mask is None else mask.copy()
        mask[denied] = False
    if mask is not None and not mask.any():
        words = [f"only {one}" for one in only] + [f"without {one}" for one in without]
        words += ["allow"] * (allow is not None) + ["deny"] * bool(denied)
        raise PalateError(
            f"no item is left by: {', '.join(words)}",
            "Relax the conditions, and give item ids as the catalogue has them.",
        )
    return ItemFilter(mask, unknown)


def _known(catalogue: Catalogue, ids: Iterable[str], unknown: list[str]) -> list[int]:
    """Indices of the items that the catalogue has; the other ids are appended to ``unknown``."""
    rows = []
    for item in ids:
        row = catalogue.index.get(item)
        if row is None:
            unknown.append(item)
        else:
            rows.append(row)
    return rows
