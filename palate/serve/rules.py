"""Filters on the catalogue, made into masks once and cached: the same few come with nearly every request."""

from __future__ import annotations

import threading
from collections import OrderedDict

import torch
from torch import Tensor

from palate.data.catalogue import Catalogue
from palate.data.conditions import allowed_items
from palate.errors import PalateError

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
