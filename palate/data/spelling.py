"""Which item somebody may have meant."""

from __future__ import annotations

from difflib import get_close_matches

from palate.data.catalogue import Catalogue

# Finding the closest spelling among more names than this takes too long for an error message.
_LIMIT = 50_000


def closest_item(catalogue: Catalogue, item: str) -> int | None:
    """The item nearest in spelling to an id, or of that title; None where nothing is near."""
    titles = catalogue.titles
    name = item.strip().lower()
    named = {title.lower(): row for row, title in enumerate(titles) if row}
    row = named.get(name)
    if row is None and len(titles) <= _LIMIT:
        near = get_close_matches(item, catalogue.index, n=1, cutoff=0.7)
        near_title = get_close_matches(name, named, n=1, cutoff=0.7)
        row = catalogue.index[near[0]] if near else named[near_title[0]] if near_title else None
    return row


def did_you_mean(catalogue: Catalogue, item: str, otherwise: str) -> str:
    """A sentence that names the closest item, or ``otherwise``."""
    row = closest_item(catalogue, item)
    return otherwise if row is None else f"Did you mean '{catalogue.ids[row]}' ({catalogue.titles[row]})?"
