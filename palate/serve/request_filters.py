"""What the filters of a request leave of the catalogue, together with the business rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import numpy.typing as npt
import polars as pl

from palate.bundle.load import Bundle
from palate.data.catalogue import Catalogue
from palate.data.conditions import Mask, allowed_items
from palate.data.item_filter import combine, mask_of
from palate.errors import PalateError
from palate.serve import schema
from palate.serve.business.model_rules import ModelRules

_CACHED = 256


class ConditionMasks:
    """Masks of the items that conditions leave, made once and cached: the same few come with nearly every request.
    Takes long on large catalogues: ask on a thread.

    Args:
        fields: what conditions may name, beside ``title`` and ``item_id``.
    """

    def __init__(self, catalogue: Catalogue, fields: Sequence[str]) -> None:
        # The cache knows the table and not this object: a circle would keep models that were replaced in memory.
        self._look_up = lru_cache(_CACHED)(partial(_mask_or_error, catalogue.frame, ["item_id", "title", *fields]))

    def __call__(self, only: tuple[str, ...], without: tuple[str, ...]) -> Mask | None:
        """bool ``[num_items + 1]``, not to be written to, or None: all items.

        Raises:
            PalateError: an unknown field, or a condition that no item meets; raised again without looking again.
        """
        found = self._look_up(only, without)
        if isinstance(found, PalateError):
            raise PalateError(found.message, found.remedy)
        return found


def _mask_or_error(
    frame: pl.DataFrame, fields: Sequence[str], only: tuple[str, ...], without: tuple[str, ...]
) -> Mask | PalateError | None:
    """The mask of some conditions, or what is wrong with them."""
    try:
        return allowed_items(frame, only, without, fields)
    except PalateError as error:
        return PalateError(error.message, error.remedy)  # without the traceback, which holds on to masks


@dataclass(frozen=True)
class Chosen:
    """What filters leave.

    Attributes:
        allowed: bool ``[num_items + 1]``, not to be written to; None: all.
        share: of the catalogue that ``allowed`` leaves, where that is known without counting.
        denied: int64 indices of items that are left out besides.
        unknown: ids that the model does not know.
    """

    allowed: Mask | None
    share: float | None
    denied: npt.NDArray[np.int64]
    unknown: list[str]


def choose_items(
    request: schema.FilteredRequest, bundle: Bundle, conditions: ConditionMasks, business: ModelRules | None
) -> Chosen:
    """What the filters of a request and the business rules leave.

    Raises:
        PalateError: an unknown field, or a condition that no item meets.
    """
    denied, unknown = bundle.known(request.deny)
    ruled = None if business is None else business.allowed
    masks = [ruled]
    if request.only or request.without:
        masks.append(conditions(tuple(request.only), tuple(request.without)))
    if request.allow is not None:
        listed, more = bundle.known(request.allow)
        unknown += more
        masks.append(mask_of(len(bundle.items), listed))
    allowed = combine(len(bundle.items), masks)
    share = business.share if business is not None and allowed is ruled else None
    return Chosen(allowed, share, np.array(denied, np.int64), unknown)
