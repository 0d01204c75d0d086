"""Packed rows read what scoring reads, and learn what is right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")

from palate.mllm.lm.chat_model import ChatModel
from palate.mllm.lm.loading import open_model
from palate.mllm.lm.options import ModelOptions
from palate.mllm.prompts.chat import Chat, Picture
from palate.mllm.prompts.items import Items
from palate.mllm.prompts.prompter import NO, YES, Prompter, PromptOptions
from palate.mllm.prompts.templates import Templates
from palate.mllm.scoring.scorer import Scorer
from palate.pretraining import tasks
from palate.pretraining.catalogues import draw_word_world
from palate.pretraining.datasets import world_dataset
from palate.pretraining.features import kept_features, picture_features
from palate.pretraining.rows import TAKEN, RowModel, item_picture
from palate.pretraining.seen_world import SeenWorld
from palate.pretraining.shops import draw_shop_world
from palate.pretraining.tasks import recommend_at

Tiny = Callable[[str], Path]


@pytest.fixture(scope="module")
def chat(tiny: Tiny) -> ChatModel:
    return open_model(ModelOptions(name=str(tiny("llava")), dtype="float32"))


@pytest.fixture(scope="module")
def seen(chat: ChatModel) -> SeenWorld:
    world = draw_shop_world(5, items=30, people=6, pictures=32)
    return SeenWorld(world, picture_features(chat, world))


def reader(chat: ChatModel) -> RowModel:
    return RowModel(chat, chat.core.model.multi_modal_projector)


def test_it_encodes_as_the_model_does(chat: ChatModel) -> None:
    here = Chat(("A ", item_picture(3), " and ", item_picture(1), ". Which?"))
    there = Chat(("A ", Picture(None), " and ", Picture(None), ". Which?"))
    for answer in (None, "The first."):
        assert reader(chat).encode(here, answer).ids.tolist() == chat.encode(there, answer).ids.tolist()


@pytest.mark.parametrize("images", ["both", "candidate", "none"])
def test_packed_questions_score_as_the_scorer_does(
    chat: ChatModel, seen: SeenWorld, images: str, tmp_path: Path
) -> None:
    """The same people and candidates through a dataset with pictures on disk."""
    options = PromptOptions(history_items=3, history_images=3, images=images, item_text="full", fields=("brand",))
    person = max(seen.world.people, key=lambda one: len(one.history))
    candidates = [int(person.history[4]), *np.setdiff1d(np.arange(1, 31), person.history)[:4].tolist()]
    row = recommend_at(seen, person, 4, options, np.random.default_rng(0), candidates)
    found = reader(chat).scores(row, seen.features)
    catalogue = world_dataset(seen.world, tmp_path / "shop").catalogue
    prompter = Prompter(Items.of(catalogue, fields=["brand"]), options, Templates.load())
    chats = [prompter.yes_no(person.history[:4].tolist(), item) for item in candidates]
    expected = Scorer(chat, reuse=False).log_odds(chats, YES, NO)
    # Features of pictures are kept in half precision.
    assert torch.allclose(found, expected, atol=1e-5 if images == "none" else 2e-3)


def test_a_world_without_pictures_has_no_features(chat: ChatModel, tmp_path: Path) -> None:
    world = draw_word_world(0, items=30, people=4)
    assert kept_features(chat, world, tmp_path / "features") is None
    row = tasks.recommend(SeenWorld(world, None), np.random.default_rng(0))
    assert not any(one.pictures for one in row.chats)
    assert torch.isfinite(reader(chat).losses(row, None).total)


def test_kept_features_are_those_that_were_computed(chat: ChatModel, seen: SeenWorld, tmp_path: Path) -> None:
    first = kept_features(chat, seen.world, tmp_path)
    bare = draw_shop_world(5, items=30, people=6, pictures=0)
    again = kept_features(chat, bare, tmp_path)
    assert first is not None
    assert again is not None
    assert torch.equal(first, again)
    drawn = {number for number in range(1, 31) if seen.world.pictured(number)}
    assert SeenWorld(bare, again).pictured == seen.pictured == drawn
    assert 20 < len(seen.pictured) <= 30


@pytest.mark.parametrize("task", ["see", "write", "match", "recommend"])
def test_a_task_is_learnt(chat: ChatModel, seen: SeenWorld, task: str, tiny: Tiny) -> None:
    """A few steps on one row lower its loss: the gradient reaches the projector, and the right tokens are aimed at."""
    model = open_model(ModelOptions(name=str(tiny("llava")), dtype="float32"))
    model.core.requires_grad_(False)
    model.core.model.language_model.requires_grad_(True)
    projector = model.core.model.multi_modal_projector.requires_grad_(True)
    draw = {"see": tasks.see, "write": tasks.write, "match": tasks.match, "recommend": tasks.recommend}[task]
    row = draw(seen, np.random.default_rng(3))
    trained = RowModel(model, projector)
    optimiser = torch.optim.Adam([value for value in model.core.parameters() if value.requires_grad], lr=3e-3)
    before = float(trained.losses(row, seen.features).total.detach())
    for _ in range(12):
        optimiser.zero_grad()
        trained.losses(row, seen.features).total.backward()
        optimiser.step()
    assert float(trained.losses(row, seen.features).total.detach()) < 0.9 * before
    if task == "see":
        assert projector.linear_1.weight.grad.abs().sum() > 0


def test_the_aim_is_what_the_history_speaks_for_and_what_was_taken(chat: ChatModel, seen: SeenWorld) -> None:
    row = tasks.recommend(seen, np.random.default_rng(1))
    assert row.worth is not None
    assert row.liked == [True] + [False] * (len(row.liked) - 1)
    model = reader(chat)
    aim = TAKEN * torch.tensor(row.liked, dtype=torch.float32) + (1 - TAKEN) * torch.softmax(row.worth, 0)
    assert model._of_options(aim.log(), row, 1).named["order"] == pytest.approx(0, abs=1e-5)
    assert model._of_options(aim.log().flip(0), row, 1).named["order"] > 0.1
