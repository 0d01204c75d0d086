"""What two items have in common, in the words of the catalogue: the same brand, the same colour, a part of the way
through the categories."""

from __future__ import annotations

from collections import Counter

import polars as pl

from palate.data.catalogue import Catalogue
from palate.features.fields import PATH, values_of
from palate.serve.schema import SharedField

# A value that more of the items have than this means nothing for two of them.
_COMMON = 0.5
# How many items, evenly spaced, tell how common a value is.
_SAMPLE = 2_000
# Longer texts are descriptions, which variants of an item may share word by word, and nobody reads twice.
_LONGEST = 80
_MOST = 5


class SharedFields:
    """Compares items by the fields of a catalogue. Values that most items have, and long texts, are left out.

    >>> items = pl.DataFrame({
    ...     "item_id": ["a", "b", "c", "d", "e"], "title": ["A"] * 5, "image": [None] * 5,
    ...     "brand": ["Nivea", "Nivea", "Essie", "Essie", None],
    ...     "kind": ["Skin > Sun", "Skin > Face", "Nails", "Nails", None]})
    >>> SharedFields(Catalogue(items))(1, 2)
    [SharedField(field='brand', values=['Nivea']), SharedField(field='kind', values=['Skin'])]
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        some = catalogue.frame.gather_every(max(1, len(catalogue) // _SAMPLE))
        self._common = {name: _common(some[name]) for name in catalogue.fields}

    def __call__(self, one: int, other: int) -> list[SharedField]:
        """What two items, by index, have in common, in the order of the catalogue's columns."""
        rows = self.catalogue.frame[[one - 1, other - 1]]
        found = []
        for name, common in self._common.items():
            first, second = values_of(rows[name])
            both = [value for value in first if value in second and value not in common and len(value) <= _LONGEST]
            longest = [value for value in both if not any(more.startswith(value + PATH) for more in both)]
            if longest:
                found.append(SharedField(field=name, values=longest[:_MOST]))
        return found


def _common(column: pl.Series) -> set[str]:
    rows = values_of(column)
    counts = Counter(value for row in rows for value in row)
    return {value for value, count in counts.items() if count > _COMMON * len(rows)}
