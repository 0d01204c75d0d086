"""Filters on the catalogue, made into masks once and cached: the same few come with nearly every request."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from palate.bundle.load import Bundle
from palate.data.catalogue import Catalogue
from palate.data.conditions import allowed_items
from palate.errors import PalateError
from palate.serve import schema
from palate.serve.business.model_rules import ModelRules

_CACHED = 256
Key = tuple[tuple[str, ...], tuple[str, ...]]


class Rules:
    """Masks of the items that conditions leave. Takes long on large catalogues: ask on a thread.

    Args:
        fields: what may be filtered by, beside ``title`` and ``item_id``.
    """

    def __init__(self, catalogue: Catalogue, fields: list[str]) -> None:
        self.catalogue, self.fields = catalogue, ["item_id", "title", *fields]
        self._known: OrderedDict[Key, Tensor | PalateError | None] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, only: tuple[str, ...], without: tuple[str, ...]) -> Tensor | None:
        """bool ``[num_items + 1]``, or None: all items.

        Raises:
            PalateError: an unknown field, or a condition that no item meets; raised again without looking again.
        """
        key = (only, without)
        with self._lock:
            if known := key in self._known:
                found = self._known[key]
                self._known.move_to_end(key)
        if not known:
            found = self._look(only, without)
            with self._lock:
                self._known[key] = found
                while len(self._known) > _CACHED:
                    self._known.popitem(last=False)
        if isinstance(found, PalateError):
            raise PalateError(found.message, found.remedy)
        return found

    def _look(self, only: tuple[str, ...], without: tuple[str, ...]) -> Tensor | PalateError | None:
        try:
            mask = allowed_items(self.catalogue.frame, only, without, self.fields)
        except PalateError as error:
            return error
        return None if mask is None else torch.from_numpy(mask)


@dataclass(frozen=True)
class Chosen:
    """What filters leave.

    Attributes:
        allowed: bool ``[num_items + 1]``; None: all.
        share: of the catalogue that ``allowed`` leaves, where that is known without counting.
        denied: int64 indices of items that are left out besides.
        unknown: ids that the model does not know.
    """

    allowed: Tensor | None
    share: float | None
    denied: npt.NDArray[np.int64]
    unknown: list[str]

    def mask(self, num_items: int) -> Tensor | None:
        """``allowed`` without what is denied."""
        if not len(self.denied):
            return self.allowed
        mask = torch.ones(num_items + 1, dtype=torch.bool) if self.allowed is None else self.allowed.clone()
        mask[torch.from_numpy(self.denied)] = False
        return mask


def choose_items(
    request: schema.FilteredRequest, bundle: Bundle, conditions: Rules, business: ModelRules | None
) -> Chosen:
    """What the filters of a request and the business rules leave.

    Raises:
        PalateError: an unknown field, or a condition that no item meets.
    """
    denied, unknown = bundle.known(request.deny)
    allowed, share = (None, None) if business is None else (business.allowed, business.share)
    masks = []
    if request.only or request.without:
        masks.append(conditions(tuple(request.only), tuple(request.without)))
    if request.allow is not None:
        these, more = bundle.known(request.allow)
        unknown += more
        listed = torch.zeros(len(bundle.items) + 1, dtype=torch.bool)
        listed[these] = True
        masks.append(listed)
    for mask in masks:
        if mask is not None:
            allowed, share = mask if allowed is None else allowed & mask, None
    return Chosen(allowed, share, np.array(denied, np.int64), unknown)
