"""The rule of preferences, its sentences, and how written ones are measured."""

from dataclasses import replace

import numpy as np
import pytest

from palate.pretraining import preferences
from palate.pretraining.catalogues import draw_word_world
from palate.pretraining.preferences import State, named, sentence, split_faded, true_tastes
from palate.pretraining.words import DOMAINS
from palate.pretraining.world import Item, Person, World

WORDING = {"kind": "{}", "colour": "in {}", "pattern": "with {}", "brand": "by {}"}
MUG = {"kind": ("mugs",), "colour": ("teal",), "brand": ("Kobo",)}


def shop(*traits):
    return World("a shop", [Item(None, {}, one) for one in traits], [], WORDING)


def after(world, history, size=4):
    state = preferences.first(world, history[:size])
    for start in range(size, len(history), size):
        state = preferences.next(world, history[start : start + size], state)
    return state


def test_what_was_seen_twice_is_named_newer_first():
    vase = {"kind": ("vases",), "colour": ("navy",), "pattern": ("stripes",)}
    state = preferences.first(shop(MUG, MUG, vase, vase, {"kind": ("bags",)}), [1, 2, 3, 4, 5])
    assert state == State(
        {"kind": ("vases", "mugs"), "colour": ("navy", "teal"), "pattern": ("stripes",), "brand": ("Kobo",)}
    )


def test_where_nothing_repeats_the_two_newest_of_the_first_aspect_are_named():
    kinds = [{"kind": (kind,), "colour": (kind[0],)} for kind in ("mugs", "bags", "vases")]
    assert preferences.first(shop(*kinds), [1, 2, 3]) == State({"kind": ("vases", "bags")})


def test_few_items_still_make_more_than_one_word():
    vase = {"kind": ("vases",), "colour": ("navy",)}
    assert preferences.first(shop(MUG, vase), [2]) == State({"kind": ("vases",), "colour": ("navy",)})
    assert preferences.first(shop(MUG, vase), [1, 2]) == State({"kind": ("vases",), "colour": ("navy",)})
    rust, teal = ({"kind": ("mugs",), "colour": (colour,)} for colour in ("rust", "teal"))
    assert preferences.first(shop(rust, vase | rust, teal), [1, 2, 3]).named["colour"] == ("rust",)
    white = {"kind": ("mugs",), "colour": ("white",)}
    assert preferences.first(shop(rust, teal, white), [1, 2, 3]) == State({"kind": ("mugs",), "colour": ("white",)})


def test_no_more_values_are_named_than_a_sentence_carries():
    many = [{"kind": tuple("abcde"), "brand": tuple("vwxyz")}] * 3
    state = preferences.first(shop(*many), [1, 2, 3])
    assert state.named == {"kind": ("a", "b", "c"), "brand": ("v", "w")}


def test_a_taste_lasts_one_block_and_then_fades():
    teal, rust = ({"kind": ("mugs",), "colour": (colour,)} for colour in ("teal", "rust"))
    world = shop(teal, rust)
    state = preferences.first(world, [1, 1, 1])
    assert state.named["colour"] == ("teal",)
    state = preferences.next(world, [2, 2, 2], state)
    assert state == State({"kind": ("mugs",), "colour": ("rust", "teal")})
    state = preferences.next(world, [2, 2, 2], state)
    assert state == State({"kind": ("mugs",), "colour": ("rust",)}, (("colour", "teal"),))
    assert preferences.next(world, [2, 2, 2], state).faded == ()


def test_one_sight_keeps_what_was_named_and_what_is_pushed_out_while_seen_does_not_fade():
    world = shop(*({"kind": ("mugs",), "colour": (colour,)} for colour in ("teal", "rust", "navy")))
    before = State({"kind": ("mugs",), "colour": ("teal", "rust")})
    state = preferences.next(world, [1, 2, 3], before)
    assert state.named["colour"] == ("teal", "rust")
    pushed = preferences.next(world, [2, 3, 3, 3, 1, 1], before)
    assert pushed == State({"kind": ("mugs",), "colour": ("teal", "navy")})


def test_at_most_two_values_fade():
    world = shop({"kind": ("bags",)})
    before = State({"kind": ("a", "b", "c"), "colour": ("d", "e")})
    state = preferences.next(world, [1, 1, 1], before)
    assert state == State({"kind": ("bags", "a"), "colour": ("d",)}, (("kind", "b"), ("kind", "c")))


def test_the_rule_reads_the_aspects_of_the_wording_only():
    world = replace(shop(MUG, MUG), wording={"kind": "{}"})
    assert preferences.first(world, [1, 2]) == State({"kind": ("mugs",)})
    assert named(world, "teal mugs") == {"kind": {"mugs"}}


def test_sentences():
    world = shop(MUG)
    full = State(
        {"kind": ("mugs", "vases"), "colour": ("teal", "navy"), "pattern": ("stripes",), "brand": ("Kobo",)},
        (("colour", "rust"),),
    )
    text = "Likes mugs and vases in teal and navy, with stripes, by Kobo. Less drawn to rust than before."
    assert sentence(world, full) == text
    assert sentence(world, State({"kind": ("a", "b", "c")})) == "Likes a, b and c."
    assert sentence(world, State({"colour": ("teal",)})) == "Likes things in teal."
    films = replace(world, wording={"genre": "{} films", "decade": "of {}"})
    assert sentence(films, State({"decade": ("the eighties",)})) == "Likes films of the eighties."
    fading = State({"genre": ("war",)}, (("genre", "horror"), ("decade", "the eighties")))
    assert sentence(films, fading) == "Likes war films. Less drawn to horror films and the eighties than before."


def test_only_the_verbs_vary():
    state = State({"kind": ("mugs",)}, (("colour", "rust"),))
    texts = {sentence(shop(MUG), state, np.random.default_rng(seed)) for seed in range(40)}
    assert len(texts) > 10
    assert all("mugs" in split_faded(text)[0] and "rust" in split_faded(text)[1] for text in texts)


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_words_of_a_sentence_are_found_again(domain):
    for seed in range(5):
        world, rng = draw_word_world(seed, domain=domain, people=15), np.random.default_rng(seed)
        for person in world.people:
            state = after(world, person.history.tolist())
            liked, gone = split_faded(sentence(world, state, rng))
            assert named(world, liked) == {aspect: {*state.named.get(aspect, ())} for aspect in world.wording}
            assert named(world, gone) == {
                aspect: {value for one, value in state.faded if one == aspect} for aspect in world.wording
            }


def test_whole_words_in_any_number_and_case():
    traits = {"kind": ("mugs", "boxes", "puppies"), "colour": ("teal", "dark teal", "orange"), "brand": ("orange",)}
    world = shop(traits)
    nothing = {aspect: set() for aspect in WORDING}
    assert named(world, "A Mug, a box and a puppy") == {**nothing, "kind": {"mugs", "boxes", "puppies"}}
    assert named(world, "dark\nTEAL, smug, tealish") == {**nothing, "colour": {"dark teal"}}
    assert named(world, "orange") == {**nothing, "colour": {"orange"}, "brand": {"orange"}}
    assert named(shop({}), "anything") == nothing
    assert named(shop({"kind": ("scarves", "vases")}), "a scarf, a vase")["kind"] == {"scarves", "vases"}


@pytest.mark.parametrize("text", ["Harbor (1987)", "films of the 1980s", "of the '80s", "Eighties films"])
def test_a_year_names_its_decade(text):
    world = shop({"kind": ("the eighties", "the nineties", "the two-thousands", "the nineteenth century")})
    assert named(world, text)["kind"] == {"the eighties"}
    assert named(world, "1850, the 19th century")["kind"] == {"the nineteenth century"}


def test_true_tastes_are_those_of_the_utility_then():
    colours = ["teal"] * 3 + ["rust"] * 3 + ["navy"] * 2 + ["grey"] * 4
    world = shop(*({"kind": ("mugs",), "colour": (colour,)} for colour in colours))
    early = np.array([-np.inf, *[2.0] * 3, *[1.0] * 3, *[9.0] * 2, *[-4.0] * 3, -np.inf])
    late = np.array([-np.inf, *[0.0] * 3, *[3.0] * 3, *[0.0] * 2, *[-1.0] * 4])
    person = Person(np.array([1]), lambda step: late if step else early)
    assert true_tastes(world, person, 0) == {"kind": (), "colour": ("teal",), "pattern": (), "brand": ()}
    assert true_tastes(world, person, 1)["colour"] == ("rust",)
    assert true_tastes(world, person, 2, top=0)["colour"] == ()


def test_states_name_true_tastes_far_more_often_than_chance():
    hits, chance = [], []
    for domain in DOMAINS:
        world, rng = draw_word_world(11, domain=domain, people=30), np.random.default_rng(0)
        for person in world.people:
            truth = true_tastes(world, person, len(person.history))
            for aspect, values in after(world, person.history.tolist()).named.items():
                known = sorted({value for item in world.items for value in item.traits.get(aspect, ())})
                hits += [value in truth[aspect] for value in values]
                chance += [value in truth[aspect] for value in rng.permutation(known)[: len(values)]]
    assert np.mean(hits) > 2 * np.mean(chance)
