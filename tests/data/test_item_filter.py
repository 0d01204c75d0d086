"""Masks of the items that may be recommended."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from palate.data.catalogue import Catalogue
from palate.data.item_filter import combine, filter_items, mask_of
from palate.errors import PalateError


@pytest.fixture
def catalogue() -> Catalogue:
    frame = pl.DataFrame({"item_id": list("abcd"), "title": [None] * 4, "image": [None] * 4, "price": [1, 2, 3, 4]})
    return Catalogue(frame)


def test_all_ways_hold_together(catalogue: Catalogue) -> None:
    left = filter_items(catalogue, only=["price>1"], without=["price=4"], allow=["a", "b", "c", "x"], deny=["y", "b"])
    assert left.mask is not None
    assert left.mask.tolist() == [False, False, False, True, False]
    assert left.unknown == ["x", "y"]
    assert filter_items(catalogue, deny=["y"]).mask is None
    with pytest.raises(PalateError, match="no item is left by: only price>1, allow, deny"):
        filter_items(catalogue, only=["price>1"], allow=["a", "b"], deny=["b"])


def test_combined_masks_are_new_where_they_narrow() -> None:
    """The service gives the same mask to many requests: a single one is not copied, and none is written to."""
    first, second = mask_of(4, [1, 2, 3]), mask_of(4, [2, 3, 4])
    assert combine(4, [None, first]) is first
    assert combine(4, []) is None
    both = combine(4, [first, second])
    assert both is not None
    assert both.nonzero()[0].tolist() == [2, 3]
    denied = combine(4, [first], np.array([3]))
    assert denied is not None
    assert denied.nonzero()[0].tolist() == [1, 2]
    nothing_else = combine(4, [], [2])
    assert nothing_else is not None
    assert nothing_else.tolist() == [False, True, False, True, True]
    assert (first.sum(), second.sum()) == (3, 3)
