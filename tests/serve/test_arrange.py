"""Boosts, caps and pins: pure functions of item indices."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from palate.serve.business.arrange import arrange, boosted_order
from palate.serve.business.model_rules import FieldCap, ModelRules, PinnedItem


def _rules(**more: Any) -> ModelRules:
    return ModelRules("v", 20, None, 20, {}, **more)


def _cap(most: int, first: int) -> FieldCap:
    """Items 1 to 10 are of one kind, the others of none in common."""
    return FieldCap("cap 1", "kind", most, first, pl.Series(["same" if n <= 10 else str(n) for n in range(1, 21)]))


def test_a_factor_divides_ranks() -> None:
    factors = np.ones(21, np.float32)
    factors[10] = 5
    factors[1] = 0.25
    order = [n + 1 for n in boosted_order(list(range(1, 11)), factors)]
    assert order == [
        2,
        10,
        3,
        1,
        4,
        5,
        6,
        7,
        8,
        9,
    ]  # 10 / 5 = 2 and 1 / 0.25 = 4: of equal ones the model decides


@pytest.mark.parametrize("seed", range(5))
def test_the_pool_of_boosts_is_enough(seed: int) -> None:
    draw = np.random.default_rng(seed)
    factors = draw.choice([0.5, 1.0, 3.0], 1001).astype(np.float32)
    rules = ModelRules("v", 1000, None, 1000, {}, factors=factors)
    items = (draw.permutation(1000) + 1).tolist()
    pool = rules.pool(10)
    assert pool == 60
    whole = [items[place] for place in boosted_order(items, factors)]
    some = [items[place] for place in boosted_order(items[:pool], factors)]
    assert some[:10] == whole[:10]


def test_caps_move_items_behind_the_first() -> None:
    done = arrange(range(1, 21), 6, _rules(caps=[_cap(2, 4)]), [], [])
    assert done.items == [1, 2, 11, 12, 3, 4]
    assert done.notes == ["cap 1: 8 items moved behind the first 4"]
    assert not done.short


def test_where_others_are_lacking_a_cap_shortens_nothing() -> None:
    done = arrange([1, 2, 3, 4], 4, _rules(caps=[_cap(2, 4)]), [], [])
    assert done.items == [1, 2, 3, 4]
    assert done.short
    assert "could not be kept at position 3" in done.notes[0]


def test_pins_take_their_places_and_count() -> None:
    pins = [PinnedItem("pin 1", 9, 0, None), PinnedItem("pin 2", 15, 0, None), PinnedItem("pin 3", 17, 30, None)]
    done = arrange(range(1, 21), 5, _rules(pins=pins, caps=[_cap(2, 5)]), [], [])
    assert done.items == [9, 15, 1, 11, 12]  # the second pin comes at the next place, the third beyond the answer
    assert done.rules == {9: ["pin 1"], 15: ["pin 2"]}


def test_pins_depend_on_the_history_and_on_what_may_be_shown() -> None:
    mask = np.zeros(21, np.bool_)
    mask[3] = True
    pins = [PinnedItem("pin 1", 9, 0, mask), PinnedItem("pin 2", 8, 1, None)]
    assert arrange([1, 2], 2, _rules(pins=pins), [4], []).items == [1, 8]
    done = arrange([1, 2], 2, _rules(pins=pins), [4, 3], [8])
    assert done.items == [9, 1]
    assert done.notes == ["pin 2 is not shown: its item is left out for this request"]


def test_a_pin_far_behind_comes_last() -> None:
    assert arrange([1], 3, _rules(pins=[PinnedItem("pin 1", 9, 2, None)]), [], []).items == [1, 9]
