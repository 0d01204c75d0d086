"""Fields of the catalogue: which values count, their codes, and what is refused."""

from __future__ import annotations

import datetime as dt
import json

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

from palate.data.catalogue import Catalogue
from palate.errors import PalateError
from palate.features.fields import BINS, FieldStore, Vocabulary, make_vocabulary
from palate.rankers.field_bags import FieldBags

ITEMS = 40


def catalogue(**columns: object) -> Catalogue:
    numbers = range(ITEMS)
    made = {
        "item_id": [f"i{n}" for n in numbers],
        "title": [f"title {n}" for n in numbers],
        "image": pl.Series([None] * ITEMS, dtype=pl.String),
        "brand": [None if n == 5 else f"b{n % 7}" for n in numbers],
        "plot": [f"a plot of its own {n}" for n in numbers],
        "categories": [f"Beauty > {'Face' if n % 2 else 'Hair'} > c{n % 3}" for n in numbers],
        "tags": [[f"t{n % 5}", f"own{n}", f"t{n % 5}"] for n in numbers],
        "price": [None if n == 5 else float(n) for n in numbers],
        "year": [2000 + n % 4 for n in numbers],
        **columns,
    }
    return Catalogue(pl.DataFrame(made))


def test_by_default_every_column_that_items_share_is_a_field() -> None:
    vocabulary = make_vocabulary(catalogue())
    found = {one.name: one for one in vocabulary.fields}
    assert list(found) == ["brand", "categories", "tags", "price", "year"]  # a plot is one item's alone
    assert found["brand"].values == tuple(f"b{n}" for n in range(7))
    assert found["tags"].values == tuple(f"t{n}" for n in range(5))
    assert {"Beauty", "Beauty > Face", "Beauty > Face > c0"} <= set(found["categories"].values)
    assert found["year"].values == ("2000", "2001", "2002", "2003")
    assert (found["price"].kind, found["price"].size) == ("number", BINS)
    assert vocabulary.size == 7 + (1 + 2 + 6) + 5 + BINS + 4
    assert vocabulary.slots == 1 + 3 + 1 + 1 + 1


def test_codes_name_what_an_item_has_and_unknown_values_are_missing() -> None:
    shop = catalogue()
    vocabulary = make_vocabulary(shop, ["brand", "price", "tags"])
    codes, present = vocabulary.encode(shop.frame)
    assert present.all()
    assert codes.dtype == np.int32
    assert codes[3].tolist() == [1 + 3, 1 + 7 + 1, 1 + 7 + BINS + 3]  # b3; of 0..39 in 16 bins; t3
    assert codes[5].tolist() == [1 + 7 + BINS + 0, 0, 0]  # neither brand nor price
    bins = codes[:, 1][codes[:, 2] > 0] - 8
    assert np.bincount(bins, minlength=BINS).min() >= 2
    new = shop.frame.head(2).with_columns(brand=pl.lit("no such"), price=pl.lit(1e9), tags=pl.lit(["other"]))
    codes, present = vocabulary.encode(new)
    assert codes[0].tolist() == [7 + BINS, 0, 0]  # beyond the last edge is the last bin
    vocabulary = make_vocabulary(shop, ["brand"])
    codes, present = vocabulary.encode(new)
    assert not codes.any()
    assert not present.any()


def test_kinds_of_columns() -> None:
    days = [dt.date(2020, 1, 1) + dt.timedelta(days=n) for n in range(ITEMS)]
    shop = catalogue(day=days, sale=[n % 2 == 0 for n in range(ITEMS)], size=[[38, 40 + n % 2] for n in range(ITEMS)])
    found = {one.name: one for one in make_vocabulary(shop).fields}
    assert (found["day"].kind, found["day"].size) == ("number", BINS)
    assert found["sale"].values == ("False", "True")
    assert found["size"].values == ("38", "40", "41")
    nested = catalogue(box=[{"a": 1}] * ITEMS)
    assert "box" not in make_vocabulary(nested).names
    with pytest.raises(PalateError, match="no two items share a value of 'box'"):
        make_vocabulary(nested, ["box"])


def test_it_is_kept_as_json() -> None:
    vocabulary = make_vocabulary(catalogue())
    again = Vocabulary.from_json(json.loads(json.dumps(vocabulary.to_json())))
    assert again == vocabulary
    assert again.fingerprint == vocabulary.fingerprint


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["brnd"], r"the catalogue has no field 'brnd'\. Did you mean 'brand'\?"),
        (["plot"], r"no two items share a value of 'plot'"),
        (["item_id"], r"'item_id' is no field"),
    ],
)
def test_a_field_that_cannot_be_learnt_is_refused(names: list[str], message: str) -> None:
    with pytest.raises(PalateError, match=message):
        make_vocabulary(catalogue(), names)


def test_a_catalogue_without_fields_is_refused() -> None:
    bare = Catalogue(catalogue().frame.select("item_id", "title", "image", "plot"))
    with pytest.raises(PalateError, match=r"no fields that items share \(it has: plot\)"):
        make_vocabulary(bare)
    with pytest.raises(PalateError, match=r"no field 'brand'\. It has none but the title"):
        make_vocabulary(Catalogue(bare.frame.drop("plot")), ["brand"])


def test_a_later_vocabulary_finds_the_values_again() -> None:
    """New brands and another order of codes; the bins of numbers stay, so that their codes mean the same."""
    earlier = make_vocabulary(catalogue())
    later = make_vocabulary(
        catalogue(brand=[f"b{n % 9}" for n in range(ITEMS)], price=[n * 3.0 for n in range(ITEMS)]), earlier=earlier
    )
    assert later.fields[3].edges == earlier.fields[3].edges
    old, new = later.moved_from(earlier)
    assert len(old) == earlier.size
    assert later.size == earlier.size + 2
    assert (old[:7], new[:7]) == ([*range(1, 8)], [*range(1, 8)])
    assert (old[7], new[7]) == (8, 10)


def test_a_bag_adds_the_values_of_an_item() -> None:
    shop = catalogue()
    store = FieldStore.of(make_vocabulary(shop, ["brand", "year"]), shop)
    for missing in ("learned", "mean", "zeros"):
        bags = FieldBags(store.width, ITEMS, 6, missing)
        codes = torch.tensor(store.vectors, dtype=torch.long)
        present = torch.tensor(store.present)
        present[8] = False
        bags.fill(codes, present, torch.ones(ITEMS + 1, dtype=torch.bool))
        made = bags()
        values = bags.values.weight
        torch.testing.assert_close(made[1], (values[1] + values[8]) / 2**0.5)
        torch.testing.assert_close(made[6], values[8 + 1])  # item 5 has no brand: its year alone
        expected = {"mean": made[1:][present[1:]].mean(0), "zeros": torch.zeros(6), "learned": bags.absent}[missing]
        torch.testing.assert_close(made[8], expected)
        made.sum().backward()
        assert not values.grad[0].any()  # type: ignore[index]
        torch.testing.assert_close(bags.of(codes[[1, 8]].float(), present[[1, 8]]), made[[1, 8]])
    assert isinstance(bags.dropout, nn.Dropout)
