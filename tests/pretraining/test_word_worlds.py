"""Catalogues in words: the same by seed, varied between seeds, and people who take what they like."""

from itertools import pairwise

import numpy as np
import pytest

from palate.errors import PalateError
from palate.pretraining.catalogues import draw_word_world
from palate.pretraining.preferences import named
from palate.pretraining.words import DOMAINS


def facts(world):
    return (
        [(one.title, dict(one.fields), dict(one.traits)) for one in world.items],
        [one.history.tolist() for one in world.people],
        dict(world.wording),
    )


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_same_seed_draws_the_same_world_and_another_seed_another(domain):
    one, again, other = (draw_word_world(seed, domain=domain, people=5) for seed in (4, 4, 5))
    assert facts(one) == facts(again)
    np.testing.assert_array_equal(one.people[0].utility(3), again.people[0].utility(3))
    assert one.name != other.name
    same = {item.title for item in one.items} & {item.title for item in other.items}
    assert len(same) < 0.7 * len(one.items)
    assert [person.history.tolist() for person in one.people] != [person.history.tolist() for person in other.people]


def test_domains_vary_by_seed():
    names = {draw_word_world(seed, items=30, people=1).name.split()[0] for seed in range(30)}
    assert names == set(DOMAINS)


def test_aspects_and_gaps_vary_by_seed():
    worlds = [draw_word_world(seed, domain="songs", items=60, people=1) for seed in range(12)]
    assert len({tuple(world.wording) for world in worlds}) > 2
    gaps = [any(None in item.fields.values() for item in world.items) for world in worlds]
    assert any(gaps)
    assert not all(gaps)


@pytest.mark.parametrize("domain", DOMAINS)
def test_traits_are_what_title_and_fields_show(domain):
    for seed in range(4):
        world = draw_word_world(seed, domain=domain, people=1)
        assert len({item.title for item in world.items}) == len(world.items)
        for item in world.items:
            assert set(item.traits) <= set(world.wording)
            words = named(world, ". ".join(filter(None, [item.title, *item.fields.values()])))
            assert all({*values} <= words[aspect] for aspect, values in item.traits.items())
            silent = [name for name, text in item.fields.items() if text is None]
            assert all(name not in item.traits or domain in ("dishes", "toys") for name in silent)


def test_a_film_has_its_year_in_brackets():
    world = next(one for one in (draw_word_world(seed, domain="films") for seed in range(9)) if "decade" in one.wording)
    years = {"the eighties": "(198", "the two-thousands": "(200"}
    shown = [item for item in world.items if item.traits["decade"][0] in years]
    assert shown
    assert all(years[item.traits["decade"][0]] in item.title for item in shown)
    assert "decade" not in world.items[0].fields


def test_more_items_than_titles():
    world = draw_word_world(0, domain="songs", items=2500, people=1)
    assert len({item.title for item in world.items}) == 2500


def test_histories_follow_utility():
    ranks = []
    for seed, domain in enumerate(DOMAINS):
        world = draw_word_world(seed, domain=domain, people=30)
        for person in world.people:
            assert 6 <= len(person.history) <= 25
            assert len(set(person.history.tolist())) == len(person.history)
            utility = person.utility(0)
            assert utility.shape == (301,)
            assert utility[0] == -np.inf
            assert np.isfinite(utility[1:]).all()
            ranks += [
                (person.utility(step)[1:] < person.utility(step)[item]).mean()
                for step, item in enumerate(person.history)
            ]
    assert 0.7 < np.mean(ranks) < 0.97


def test_tastes_drift_for_some():
    world = draw_word_world(2, domain="films", people=60)
    drifted = 0
    for person in world.people:
        steps = [person.utility(step) for step in range(len(person.history) + 1)]
        drifted += any((one != two).any() for one, two in pairwise(steps))
    assert 5 < drifted < 55


@pytest.mark.parametrize(
    ("options", "said"),
    [({"domain": "film"}, "Did you mean 'films'"), ({"items": 20}, "20 items"), ({"people": 0}, "0 people")],
)
def test_impossible_worlds_are_refused(options, said):
    with pytest.raises(PalateError, match=said):
        draw_word_world(0, **options)
