"""Right answers are functions of what their prompts show."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")

from palate.mllm.prompts.prompter import PromptOptions
from palate.pretraining.catalogues import draw_word_world
from palate.pretraining.evidence import evidence, visible
from palate.pretraining.preferences import split_faded
from palate.pretraining.seen_world import SeenWorld
from palate.pretraining.shops import draw_shop_world
from palate.pretraining.tasks import CANDIDATES, match, recommend, recommend_at, see, write
from palate.pretraining.written_tastes import named


@pytest.fixture(scope="module")
def shop() -> SeenWorld:
    world = draw_shop_world(2, items=160, people=20, pictures=0)
    features = torch.ones(161, 1, 1, dtype=torch.float16)
    features[3::20] = 0  # without a picture
    features[0] = 0
    return SeenWorld(world, features)


@pytest.fixture(scope="module")
def films() -> SeenWorld:
    return SeenWorld(draw_word_world(4, domain="films", items=160, people=20), None)


@pytest.mark.parametrize("seed", range(12))
def test_a_preference_names_only_what_its_prompt_names(shop: SeenWorld, films: SeenWorld, seed: int) -> None:
    for world in (shop, films):
        row = write(world, np.random.default_rng(seed))
        for chat, answer in zip(row.chats, row.answers, strict=True):
            shown = named(world.world, chat.text)
            for part in split_faded(answer):
                for aspect, values in named(world.world, part).items():
                    assert values <= shown[aspect], (chat.text, answer)


def test_captions_are_the_truth_of_the_pictures(shop: SeenWorld) -> None:
    row = see(shop, np.random.default_rng(0))
    items = [int(str(picture.path)) for chat in row.chats for picture in chat.pictures]
    assert len(items) == len(row.chats) == len(row.answers)
    assert not {3, 23} & set(items)
    for item, text in zip(items, row.answers, strict=True):
        traits = shop.world.items[item - 1].traits
        for aspect in ("product", "colour", "pattern", "shape"):
            assert traits[aspect][0] in text


def test_matching_candidates_share_the_fancy_of_the_history(shop: SeenWorld) -> None:
    for seed in range(6):
        row = match(shop, np.random.default_rng(seed))
        assert row.worth is not None
        assert len(row.chats) == CANDIDATES
        liked = torch.tensor(row.liked)
        if liked.sum() > 1:  # else it fell back on what somebody took
            assert row.worth[liked].mean() > row.worth[~liked].mean()


def test_what_no_prompt_shows_speaks_for_nobody(films: SeenWorld) -> None:
    """Titles alone name no genre: all candidates are worth the same but for the years in them."""
    person = films.world.people[0]
    shown = recommend_at(films, person, 4, PromptOptions(history_items=4, fields=()), np.random.default_rng(0))
    full = recommend_at(
        films,
        person,
        4,
        PromptOptions(history_items=4, item_text="full", history_text="full"),
        np.random.default_rng(0),
    )
    assert shown.worth is not None
    assert full.worth is not None
    assert float(shown.worth.max() - shown.worth.min()) < float(full.worth.max() - full.worth.min())


def test_pictures_speak_only_where_they_are_shown(shop: SeenWorld) -> None:
    item = next(iter(shop.pictured))
    seen, unseen = (visible(shop.world, item, {}, picture) for picture in (True, False))
    assert seen["pattern"] == shop.world.items[item - 1].traits["pattern"]
    assert unseen["pattern"] == ()
    assert seen["brand"] == unseen["brand"] == ()
    assert "product" not in seen


def test_newer_items_count_more_and_a_preference_counts(shop: SeenWorld) -> None:
    mug, lamp = {"kind": ("mugs",)}, {"kind": ("lamps",)}
    of_mugs, of_lamps = evidence(shop.world, [mug, lamp], [mug, lamp], {})
    assert of_lamps > of_mugs > 0
    of_mugs, of_lamps = evidence(shop.world, [mug, lamp], [mug, lamp], {"kind": {"mugs"}})
    assert of_mugs > of_lamps
    assert evidence(shop.world, [], [mug, lamp], {}).tolist() == [0, 0]


def test_the_same_draw_is_the_same_row(shop: SeenWorld) -> None:
    for task in (see, write, match, recommend):
        first, second = (task(shop, np.random.default_rng(9)) for _ in range(2))
        assert [chat.text for chat in first.chats] == [chat.text for chat in second.chats]
        assert list(first.answers) == list(second.answers)


def test_without_titles_only_pictures_tell_candidates_apart(shop: SeenWorld) -> None:
    options = PromptOptions(history_items=4, images="both", history_images=4)
    for seed in range(4):
        row = match(shop, np.random.default_rng(seed), options, titles=False)
        assert row.worth is not None
        assert len(set(row.worth.tolist())) > 1
        for chat in row.chats:
            assert not any(named(shop.world, chat.text).values()), chat.text
