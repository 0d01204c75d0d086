"""Conditions on items: what each form means, and what is said of a mistake."""

from __future__ import annotations

import re

import polars as pl
import pytest

from palate.data.conditions import allowed_items, find_matches, parse_condition
from palate.errors import PalateError

SHOP = pl.DataFrame(
    {
        "item_id": ["a", "b", "c", "d"],
        "title": ["Mug, blue", "Mug", "Blue", None],
        "colour": ["Red", "blue", "green", None],
        "price": [5.0, 12.5, float("nan"), None],
        "stock": [0, 3, 7, None],
        "tags": [["new", "cheap"], ["cheap"], [], None],
        "sizes": [[38, 40], [44], [], None],
        "new": [True, False, None, True],
        "a<b": ["x", "y", "x", "y"],
    },
    schema_overrides={"sizes": pl.List(pl.Int64)},
)


def met(condition: str) -> str:
    """The ids of the items that a condition finds, one after the other."""
    mask = find_matches(SHOP, condition).mask
    assert not mask[0]
    return "".join(SHOP["item_id"].filter(pl.Series(mask[1:])))


@pytest.mark.parametrize(
    ("condition", "items"),
    [
        ("colour=red", "a"),
        ("colour= RED ", "a"),
        ("colour = red", "a"),
        ("colour=red,Blue", "ab"),
        ('colour="red", "blue"', "ab"),
        ("colour!=red", "bcd"),
        ("colour!=red,blue", "cd"),
        ("tags=new", "a"),
        ("tags=new,cheap", "ab"),
        ("tags!=new", "bcd"),
        ("title=mug, blue", "a"),  # an item's whole title, though a comma is in it
        ('title="mug","blue"', "bc"),
        ('title="Mug, blue",Mug', "ab"),
        ("price<12.5", "a"),
        ("price<=12.5", "ab"),
        ("price>5", "b"),
        ("price>=5", "ab"),
        ("price=5", "a"),
        ("price=5,12.50", "ab"),
        ("price=5..12", "a"),
        ("price=5..12.5", "ab"),
        ("price!=5..12", "bcd"),
        ("price<0", ""),
        ("stock>2", "bc"),
        ("stock<=9999999999999999999999", "abc"),
        ("stock=-1..0,7", "ac"),
        ("sizes=38..39,44", "ab"),
        ("sizes<40", "a"),
        ("sizes>=40", "ab"),
        ("new=TRUE", "ad"),
        ("a<b=x", "ac"),
    ],
)
def test_what_a_condition_finds(condition: str, items: str) -> None:
    assert met(condition) == items


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("colour", "not a condition on this catalogue. Write colour=VALUE,"),
        ("cheap", "not a condition on this catalogue. Write FIELD=VALUE,"),
        ("color=red", "'color=red' is not a condition on this catalogue. Did you mean 'colour'?"),
        ("prise<20", "Did you mean 'price'?"),
        ("price<cheap", "'cheap' is no number, and the field 'price' holds numbers. Write price<5.0"),
        ("price=5..", "'5..' is no number"),
        ("price<20,30", "'20,30' is no number"),
        ("price<nan", "'nan' is no number"),
        ("price=20..5", "20..5 is empty. Write price=5..20."),
        ("colour<20", "the field 'colour' holds text, such as 'Red', and < compares numbers. Write colour=VALUE"),
        ("tags>1", "the field 'tags' holds text, such as 'new'"),
        ('colour="red', "a double quote is not closed"),
    ],
)
def test_a_condition_that_cannot_be_is_explained(condition: str, message: str) -> None:
    with pytest.raises(PalateError, match=re.escape(message)):
        find_matches(SHOP, condition)


@pytest.mark.parametrize("condition", ["pairs=1", "pairs!=1", "pairs<2", "box=1"])
def test_a_field_of_fields_cannot_be_filtered_by(condition: str) -> None:
    frame = pl.DataFrame({"pairs": [[[1, 2]], [[3]]], "box": [{"height": 1}, {"height": 2}]})
    with pytest.raises(PalateError, match=re.escape("cannot be filtered by. Use a text, number or list.")):
        find_matches(frame, condition)


def test_every_value_between_commas_has_to_exist() -> None:
    assert find_matches(SHOP, "colour=red,bleu").missing == ["colour=bleu"]
    assert find_matches(SHOP, "colour!=bleu").missing == ["colour=bleu"]
    assert find_matches(SHOP, "price=1..2").missing == []
    message = re.escape("no item meets 'colour=bleu', a part of 'colour=red,bleu'. Did you mean 'colour=blue'?")
    for only, without in ((["colour=red,bleu"], []), ([], ["colour=red,bleu"])):
        with pytest.raises(PalateError, match=message):
            allowed_items(SHOP, only, without)


def test_a_number_that_no_item_has() -> None:
    with pytest.raises(PalateError, match=r"no item meets 'stock>7'. The field holds numbers from 0 to 7."):
        allowed_items(SHOP, ["stock>7"], [])
    mask = allowed_items(SHOP, [], ["stock>7"])  # nothing to leave out is no mistake
    assert mask is not None
    assert mask.tolist() == [False, True, True, True, True]


def test_only_some_fields_may_be_named() -> None:
    assert parse_condition("stock>1", ["stock"]).field == "stock"
    with pytest.raises(PalateError, match="Did you mean 'stock'"):
        allowed_items(SHOP, ["stocks=1"], [], ["stock"])
    with pytest.raises(PalateError, match="not a condition"):
        allowed_items(SHOP, ["price<5"], [], ["stock"])
