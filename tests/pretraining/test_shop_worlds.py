"""Drawn shops as worlds: consistent, different from one another, and silent about what is held out."""

from __future__ import annotations

import numpy as np
import pytest

from palate.demo.shop.looks import PATTERNS
from palate.demo.shop.products import KINDS
from palate.demo.shop.vocabulary import BRANDS, COLOURS
from palate.errors import PalateError
from palate.pretraining import shop_words
from palate.pretraining.shop_style import HELD_OUT_KINDS, PRETRAINING_KINDS, draw_style
from palate.pretraining.shops import WORDING, draw_shop_world, plural
from palate.pretraining.world import World


@pytest.fixture(scope="module")
def world() -> World:
    return draw_shop_world(5, items=120, people=20, pictures=24)


def test_items_have_words_pictures_and_the_plain_truth(world: World) -> None:
    assert len(world.items) == 120
    assert world.wording == WORDING
    for item in world.items:
        assert set(item.traits) == {*WORDING, "product", "shape"}
        kind = item.traits["product"][0]
        assert kind in PRETRAINING_KINDS
        assert item.traits["kind"] == (plural(kind),)
        assert item.traits["colour"][0] in COLOURS.values()
        assert item.traits["pattern"][0] in {*PATTERNS, "no pattern"} - {"plain"}
        assert item.traits["shape"][0] in {"round", "angular"}
        if item.title is not None:
            assert item.fields["category"] == kind
            assert item.fields["brand"] == item.traits["brand"][0]
            assert item.fields["material"] == item.traits["material"][0]
            family = next(family for family, word in COLOURS.items() if word == item.traits["colour"][0])
            assert item.fields["colour"] in shop_words.COLOURS[family]
        if item.picture is not None:
            assert item.picture.size == (24, 24)
    assert 0.8 < np.mean([item.picture is not None for item in world.items]) < 1


def test_histories_are_in_range_and_what_was_taken_was_on_sale(world: World) -> None:
    assert len(world.people) == 20
    places = []
    for person in world.people:
        history = person.history
        assert len(set(history.tolist())) == len(history) >= 5
        assert 1 <= history.min() <= history.max() <= len(world.items)
        for step, taken in enumerate(history):
            worth = person.utility(step)
            assert worth.shape == (len(world.items) + 1,)
            assert np.isneginf(worth[0])
            assert not np.isnan(worth).any()
            sold = np.isfinite(worth)
            assert sold[taken]
            places.append((worth[sold] < worth[taken]).mean())
    assert np.mean(places) > 0.7  # people take what is worth much to them


def test_the_same_seed_draws_the_same_world_and_another_seed_another() -> None:
    one, same, other = (draw_shop_world(seed, items=40, people=5, pictures=16) for seed in (1, 1, 2))
    assert [item.fields for item in one.items] == [item.fields for item in same.items]
    for a, b in zip(one.items, same.items, strict=True):
        assert (a.picture and a.picture.tobytes()) == (b.picture and b.picture.tobytes())
    assert all((a.history == b.history).all() for a, b in zip(one.people, same.people, strict=True))
    assert (one.people[0].utility(2) == same.people[0].utility(2)).all()
    assert [item.title for item in one.items] != [item.title for item in other.items]
    assert one.name != other.name


def test_a_world_may_be_drawn_of_some_kinds_without_pictures() -> None:
    world = draw_shop_world(3, items=60, people=3, kinds=HELD_OUT_KINDS, pictures=0)
    assert {item.traits["product"][0] for item in world.items} <= set(HELD_OUT_KINDS)
    assert all(item.picture is None for item in world.items)
    assert world.name != draw_shop_world(3, items=60, people=3, pictures=0).name
    assert draw_shop_world(3, items=24, people=1, kinds=["hat"], pictures=0).items[0].traits["kind"] == ("hats",)


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(PalateError, match="'spoon' can be drawn"):
        draw_shop_world(0, kinds=["mug", "spoon"])
    with pytest.raises(PalateError, match="must sell something"):
        draw_shop_world(0, kinds=[])
    with pytest.raises(PalateError, match="too small"):
        draw_shop_world(0, items=5)
    with pytest.raises(PalateError, match="too small"):
        draw_shop_world(0, people=0)


def test_styles_differ_and_never_draw_what_is_held_out() -> None:
    styles = [draw_style(np.random.default_rng(seed)) for seed in range(60)]
    assert {kind for style in styles for kind in style.kinds} == set(KINDS) - set(HELD_OUT_KINDS)
    assert {len(style.kinds) for style in styles} == set(range(5, 11))
    assert {style.title for style in styles} == set(shop_words.TITLES)
    for style in styles:
        assert not set(style.brands) & set(BRANDS)
        assert set(style.colours) == set(COLOURS)
        assert set(style.patterns) == set(PATTERNS)
        assert 0.8 <= style.strength <= 2.5
        assert 0.9 <= style.drift <= 0.995


def test_the_words_fit_the_shop() -> None:
    assert set(shop_words.KINDS) == set(KINDS)
    assert {family: words[0] for family, words in shop_words.COLOURS.items()} == COLOURS
    assert {pattern: words[0] for pattern, words in shop_words.PATTERNS.items()} == {name: name for name in PATTERNS}
    every = [word for words in shop_words.COLOURS.values() for word in words]
    assert len(set(every)) == len(every)  # a word names one family
