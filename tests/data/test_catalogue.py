"""Items by their ids, and what they are called."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import pytest

from palate.data.catalogue import Catalogue
from palate.data.numbering import numbers_of

SCHEMA = {"item_id": pl.String, "title": pl.String, "image": pl.String}


def catalogue(ids: Sequence[str], titles: Sequence[str | None] | None = None) -> Catalogue:
    columns = {"item_id": ids, "title": titles or [None] * len(ids), "image": [None] * len(ids)}
    return Catalogue(pl.DataFrame(columns, schema=SCHEMA))


def test_items_are_found_in_another_catalogue() -> None:
    here, there = catalogue(["c", "new", "a"]), catalogue(["a", "b", "c"])
    assert here.indices_in(there).tolist() == [0, 3, 0, 1]
    assert there.indices_in(here).tolist() == [0, 3, 0, 1]
    assert here.indices_in(catalogue([])).tolist() == [0, 0, 0, 0]
    assert catalogue([]).indices_in(here).tolist() == [0]
    assert here.indices_in(there).dtype == "int32"


@pytest.mark.parametrize("among", [[], ["b", "a"], [f"i{n}" for n in range(1000)]])
def test_ids_are_numbered_as_by_a_dictionary(among: list[str]) -> None:
    ids = pl.Series(["a", "i7", "", "a", None, "i999"], dtype=pl.String)
    place = {item: number for number, item in enumerate(among, 1)}
    assert numbers_of(ids, pl.Series(among, dtype=pl.String)).tolist() == [place.get(item, 0) for item in ids]


def test_an_item_without_a_title_is_called_by_its_id() -> None:
    shop = catalogue(["a", "b", "c"], ["A hat", "", None])
    assert shop.titles == ["", "A hat", "b", "c"]
    assert shop.title_column.to_list() == ["A hat", "b", "c"]
    untitled = shop.frame.with_columns(pl.lit(None).alias("title"))
    assert Catalogue(untitled).titles == ["", "a", "b", "c"]
