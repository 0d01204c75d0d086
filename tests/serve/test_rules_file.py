"""The file of business rules: what it means for a catalogue, and mistakes named by file and line."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from palate.bundle.items import BundleItems
from palate.data.catalogue import Catalogue
from palate.errors import PalateError
from palate.serve.business.item_list import read_item_list
from palate.serve.business.model_rules import ModelRules, compile_rules
from palate.serve.business.rules_file import read_lists, read_rules_file


@pytest.fixture
def items() -> BundleItems:
    frame = pl.DataFrame(
        {
            "item_id": ["a", "b", "c", "d", "e"],
            "title": ["A", "B", "C", "D", "E"],
            "image": pl.Series([None] * 5, dtype=pl.String),
            "brand": ["Nivea", "Nivea", "Essie", "Essie", None],
            "tags": [["sun", "new"], ["sun"], ["nails"], [], None],
        }
    )
    return BundleItems(Catalogue(frame), [None] * 5)


def _rules(folder: Path, text: str, items: BundleItems) -> ModelRules:
    path = folder / "rules.toml"
    path.write_text(text)
    return compile_rules(read_lists(path, *read_rules_file(path)), items)


def _left(rules: ModelRules) -> str:
    assert rules.allowed is not None
    return "".join("abcde"[item - 1] for item in rules.allowed.nonzero()[0].tolist())


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("deny = ['b', 'e']", "acd"),
        ("allow = ['b', 'e']", "be"),
        ("only = ['brand=Nivea']\ndeny = ['a']", "b"),
        ("without = ['tags=sun']", "cde"),
        ("in_stock = 'stock.txt'", "ace"),
        ("in_stock = 'stock.csv'\ndeny_file = 'recalled.txt'", "cd"),
    ],
)
def test_what_is_left(tmp_path: Path, items: BundleItems, text: str, left: str) -> None:
    (tmp_path / "stock.txt").write_text("a\n\nc\ne\nnot-in-the-model-yet\n")
    (tmp_path / "stock.csv").write_text('count,item_id\n3,c\n"1",d\n9,e\n')
    (tmp_path / "recalled.txt").write_text("e\n")
    rules = _rules(tmp_path, text, items)
    assert _left(rules) == left
    assert rules.left == len(left)
    assert rules.warnings == []


def test_ids_may_hold_spaces_that_do_not_show(tmp_path: Path) -> None:
    (tmp_path / "stock.txt").write_text("a\u200bb\nc\u00a0d\n")
    assert read_item_list(tmp_path / "stock.txt") == ["a\u200bb", "c\u00a0d"]


def test_factors_multiply_up_to_ten(tmp_path: Path, items: BundleItems) -> None:
    text = """
    [[boost]]
    only = ["brand=Nivea"]
    factor = 4
    [[boost]]
    items = ["a", "d"]
    without = ["tags=nails"]
    factor = 5
    [[boost]]
    only = ["brand=Essie"]
    factor = 0.5
    """
    rules = _rules(tmp_path, text, items)
    assert rules.factors is not None
    assert rules.factors[1:].tolist() == [10.0, 4.0, 0.5, 2.5, 1.0]
    assert rules.allowed is None
    assert rules.pool(3) == 5  # of 3 * 10 / 0.5, all that there are


def test_caps_know_the_values_of_texts_and_lists(tmp_path: Path, items: BundleItems) -> None:
    rules = _rules(tmp_path, "[[cap]]\nfield = 'brand'\nmost = 1\n[[cap]]\nfield = 'tags'\nmost = 2\nfirst = 4", items)
    brand, tags = rules.caps
    assert (brand.most, brand.first, brand.values_of(1), brand.values_of(5)) == (1, 10, ("Nivea",), ())
    assert (tags.first, tags.values_of(1), tags.values_of(4), tags.values_of(5)) == (4, ("sun", "new"), (), ())


def test_a_misspelt_value_is_named_with_the_closest_one(tmp_path: Path, items: BundleItems) -> None:
    """Of ``!=`` it is not true that nothing is left out, and a number has no closest one."""
    text = """
    without = ["brand=Zzz", "brand=Nivea,Nivae"]
    [[boost]]
    items = ["a"]
    without = ["brand!=Nivae"]
    factor = 2
    """
    assert [warning.partition(": ")[2] for warning in _rules(tmp_path, text, items).warnings] == [
        "no item meets 'brand=Zzz', so it leaves nothing out",
        "no item meets 'brand=Nivae', so it leaves nothing out. Did you mean 'brand=Nivea'?",
        "no item meets 'brand=Nivae'. Did you mean 'brand=Nivea'?",
    ]


def test_what_means_nothing_is_warned_of(tmp_path: Path, items: BundleItems) -> None:
    text = "deny = ['x', 'brand=Nivea']\n\nwithout = ['brand=Nivae']\n[[pin]]\nitem = 'y'\nposition = 1"
    rules = _rules(tmp_path, text, items)
    name = "rules.toml"  # without its folder: clients see it
    assert rules.warnings == [
        f"{name}, line 1: deny names the unknown item 'x'",
        f"{name}, line 1: deny names the unknown item 'brand=Nivea'; conditions belong under only and without",
        f"{name}, line 3: no item meets 'brand=Nivae', so it leaves nothing out. Did you mean 'brand=Nivea'?",
        f"{name}, line 5: pin names the unknown item 'y'",
    ]
    assert (rules.left, rules.pins) == (5, [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("deny = [oops", r"rules.toml is not valid TOML .*line 1"),
        ("\ndney = ['a']", r"rules.toml, line 2: unknown option 'dney'. Did you mean 'deny'\?"),
        ("[[boost]]\nfactor = 2\nwihtout = []", r"line 3: unknown option .*wihtout'. Did you mean 'without'"),
        ("deny = [\n  108775015,\n]", r"rules.toml, line 1: 'deny.0'"),
        ("only = ['colour=red']", r"rules.toml, line 1: 'colour=red' is not a condition"),
        ("[[boost]]\nfactor = 2\n\n[[boost]]\nitems = ['a']\nfactor = 11", r"line 6: 'boost.1.factor'"),
        ("[[boost]]\nitems = ['a']\nfactor = 3\n[[boost]]\nfactor = 2", r"line 4: this boost names no items"),
        ("[[pin]]\nitem = 'a'\n[[pin]]\nposition = 1", r"line 1: 'pin.0.position' is missing"),
        ("[[cap]]\nfield = 'band'\nmost = 1", r"line 2: the catalogue has no field 'band'. Did you mean 'brand'\?"),
        ("in_stock = 'nowhere.txt'", r"nowhere.txt does not exist"),
        ("in_stock = 'bad.csv'", r"bad.csv, line 1: there is no column 'item_id'. Did you mean 'itemid'\?"),
        ("in_stock = 'torn.csv'", r"torn.csv, line 3: 1 columns, the header has 2"),
        ("in_stock = 'binary.txt'", r"binary.txt, line 2 is no item id"),
        ("in_stock = 'empty.txt'", r"no item is left by: in_stock"),
    ],
)
def test_mistakes_name_file_and_line(tmp_path: Path, items: BundleItems, text: str, message: str) -> None:
    (tmp_path / "bad.csv").write_text("itemid\na\n")
    (tmp_path / "torn.csv").write_text("item_id,count\na,1\nb\n")
    (tmp_path / "binary.txt").write_text("a\n\x00\x01\n")
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(PalateError, match=message):
        _rules(tmp_path, text, items)
