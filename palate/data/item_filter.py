"""Which items may be recommended: conditions on their fields, and lists of their ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt

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
    """Apply the four ways to narrow recommendations, which are the same for ``palate recommend``, bundles and the
    service (which caches the masks of conditions, and joins them by :func:`combine`, too).

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
    unknown: list[str] = []
    masks = [allowed_items(catalogue.frame, only, without)]
    if allow is not None:
        masks.append(mask_of(len(catalogue), _known(catalogue, allow, unknown)))
    denied = _known(catalogue, deny, unknown)
    mask = combine(len(catalogue), masks, denied)
    if mask is not None and not mask.any():
        words = [f"only {one}" for one in only] + [f"without {one}" for one in without]
        words += ["allow"] * (allow is not None) + ["deny"] * bool(denied)
        raise PalateError(
            f"no item is left by: {', '.join(words)}",
            "Relax the conditions, and give item ids as the catalogue has them.",
        )
    return ItemFilter(mask, unknown)


def mask_of(num_items: int, indices: Sequence[int]) -> Mask:
    """Mask of some items: bool ``[num_items + 1]``."""
    mask = np.zeros(num_items + 1, np.bool_)
    mask[list(indices)] = True
    return mask


def combine(
    num_items: int, masks: Iterable[Mask | None], denied: Sequence[int] | npt.NDArray[np.int64] = ()
) -> Mask | None:
    """The items that all masks allow, without those that are denied: bool ``[num_items + 1]``; None: all items.

    Args:
        masks: bool ``[num_items + 1]``, padding False; None allows all. A single one without denied items comes back
            itself, not a copy.
        denied: item indices.

    >>> combine(3, [None, np.array([False, True, True, False])], [1])
    array([False, False,  True, False])
    """
    given = [mask for mask in masks if mask is not None]
    allowed = reduce(np.logical_and, given) if given else None
    if not len(denied):
        return allowed
    left = np.arange(num_items + 1) > 0 if allowed is None else allowed.copy()
    left[denied] = False
    return left


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
