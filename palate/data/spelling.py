"""Suggests the item that a misspelt id may mean."""

from __future__ import annotations

from difflib import get_close_matches

import polars as pl

from palate.data.catalogue import Catalogue
from palate.data.dropped import why_dropped

# Finding the closest spelling among more names than this takes too long for an error message.
_LIMIT = 50_000


def closest_item(catalogue: Catalogue, item: str) -> int | None:
    """The item nearest in spelling to an id, or of that title; None where nothing is near."""
    titles = catalogue.titles
    name = item.strip().lower()
    named = {title.lower(): row for row, title in enumerate(titles) if row}
    row = named.get(name)
    if row is None and len(titles) <= _LIMIT:
        near = _near_ids(catalogue, item.strip())
        near_title = [] if name.isdecimal() else get_close_matches(name, named, n=1, cutoff=0.7)
        row = catalogue.index[near[0]] if near else named[near_title[0]] if near_title else None
    return row


def _near_ids(catalogue: Catalogue, item: str) -> list[str]:
    """Numbers are near only if they are equal: 108775 and 108776 are two items, not two spellings."""
    if item.isdecimal():
        return [known for known in catalogue.index if known.isdecimal() and known.lstrip("0") == item.lstrip("0")][:1]
    return get_close_matches(item, catalogue.index, n=1, cutoff=0.7)


def did_you_mean(catalogue: Catalogue, item: str, otherwise: str, dropped: pl.LazyFrame | None = None) -> str:
    """A sentence on what left the item out, or names the closest item, or ``otherwise``.

    Args:
        dropped: see :attr:`palate.data.dataset.Dataset.dropped`.
    """
    why = why_dropped(dropped, item)
    if why is not None:
        return why
    row = closest_item(catalogue, item)
    if row is None:
        return otherwise
    near, title = catalogue.ids[row], catalogue.titles[row]
    return f"Did you mean '{near}'{f' ({title})' if title != near else ''}?"
