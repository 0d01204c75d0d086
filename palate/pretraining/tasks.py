"""The three tasks of pretraining, as rows drawn from a world: see, write, recommend."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from palate.mllm.prompts.chat import Chat
from palate.mllm.prompts.prompter import Prompter, PromptOptions
from palate.mllm.prompts.summary_prompts import SummaryPrompts
from palate.mllm.prompts.templates import Templates
from palate.mllm.warmup.captions import QUESTION
from palate.pretraining import evidence, preferences
from palate.pretraining.rows import Row, item_picture
from palate.pretraining.seen_world import SeenWorld, WorldItems
from palate.pretraining.world import Floats, Person, World

# Items in a row of captions, and people in a row of written preferences.
SEEN, WRITTEN = 10, 3
CANDIDATES = 8
FIRST_STEP = 2  # items in a history at least
BLOCK, SHORT = (3, 9), (1, 3)  # items in a block of a history, and in a short one
SHORT_BLOCKS = 0.2  # share of people whose blocks are short
NO_WORDS = 0.5  # share of the rows with pictures in which nothing but pictures tells items apart
TELLING, TRIES = 3.0, 4  # nats between the best and the worst candidate that make a row worth reading


TEMPLATES = Templates.load()


def see(world: SeenWorld, rng: np.random.Generator) -> Row:
    """Pictures and what they show, by the question of the warm-up or by the prompt of item summaries."""
    some = rng.permutation(sorted(world.pictured))[:SEEN].tolist()
    if rng.random() < 0.5:
        chats = [Chat((item_picture(item), QUESTION)) for item in some]
    else:
        fields = _some_fields(world, rng)
        items = world.shown(fields, titles=bool(rng.random() < 0.7))
        prompts = SummaryPrompts(items, TEMPLATES)
        chats = [prompts.item(item) for item in some]
    return Row("see", chats, answers=[world.captions[item - 1] for item in some])


def write(world: SeenWorld, rng: np.random.Generator) -> Row:
    """Blocks of people's histories and the preference before them, and the preference after."""
    items = world.shown(_some_fields(world, rng), captions=bool(rng.random() < 0.7))
    prompts = SummaryPrompts(items, TEMPLATES)
    chats, answers = [], []
    recurrent = rng.random() < 0.6
    for _ in range(WRITTEN):
        person = _person(world.world, rng)
        size = int(rng.integers(*(SHORT if rng.random() < SHORT_BLOCKS else BLOCK)))
        history = person.history.tolist()
        legible = items.legible_world(world.world, history)
        blocks = [history[start : start + size] for start in range(0, len(history), size)]
        place = int(rng.integers(1, len(blocks))) if recurrent and len(blocks) > 1 else 0
        state = preferences.first(legible, blocks[0])
        if place == 0:
            chats.append(prompts.first(blocks[0]) if rng.random() < 0.7 else prompts.direct(blocks[0]))
        else:
            for block in blocks[1:place]:
                state = preferences.next(legible, block, state)
            before = preferences.sentence(legible, state, rng)
            chats.append(prompts.next(blocks[place], before))
            state = preferences.next(legible, blocks[place], state)
        answers.append(preferences.sentence(legible, state, rng))
    return Row("write", chats, answers=answers)


def recommend(world: SeenWorld, rng: np.random.Generator, options: PromptOptions | None = None) -> Row:
    """One person at one step: what was taken then among candidates that were not."""
    for _ in range(TRIES):  # prompts that show little of use teach little
        drawn, titles = (options, True) if options else _prompt_options(world, rng)
        person = _person(world.world, rng)
        step = int(rng.integers(min(FIRST_STEP, len(person.history) - 1), len(person.history)))
        row = recommend_at(world, person, step, drawn, rng, titles=titles)
        assert row.worth is not None
        if float(row.worth.max() - row.worth.min()) >= TELLING:
            break
    return row


def match(world: SeenWorld, rng: np.random.Generator, options: PromptOptions | None = None, titles: bool = True) -> Row:
    """A history of one fancy, and candidates that suit it or do not: the easiest form of recommending.

    Four of five items of the history have one value, say teal; half of the candidates have it. What else the items have
    is up to chance.

    Args:
        options, titles: in place of drawn ones; without titles, numbers stand for items.
    """
    for _ in range(TRIES):
        drawn_options, drawn_titles = (options, titles) if options else _prompt_options(world, rng)
        aspect = str(rng.choice([*world.world.wording, *(["shape"] if world.pictured else [])]))
        holders: dict[str, list[int]] = {}
        for number, item in enumerate(world.world.items, 1):
            for value in item.traits.get(aspect, ()):
                holders.setdefault(value, []).append(number)
        fancies = [value for value, items in holders.items() if len(items) >= 2 * CANDIDATES]
        if not fancies:
            continue
        having = holders[str(rng.choice(fancies))]
        others = sorted(set(range(1, len(world.world.items) + 1)) - set(having))
        size = int(rng.integers(3, 9))
        of_fancy = max(2, int(rng.binomial(size, 0.8)))
        drawn = rng.permutation(having).tolist()
        rest = rng.permutation(others).tolist()
        history = rng.permutation(drawn[:of_fancy] + rest[: size - of_fancy]).tolist()
        suiting = int(rng.integers(1, CANDIDATES // 2 + 1))
        left = max(0, size - of_fancy)
        chosen = drawn[of_fancy : of_fancy + suiting] + rest[left : left + CANDIDATES - suiting]
        liked = [number < suiting for number in range(len(chosen))]
        row = _row(world, history, chosen, liked, drawn_options, rng, drawn_titles)
        assert row.worth is not None
        if len(chosen) == CANDIDATES and float(row.worth.max() - row.worth.min()) >= TELLING:
            return row
    return recommend(world, rng)


def recommend_at(
    world: SeenWorld,
    person: Person,
    step: int,
    options: PromptOptions,
    rng: np.random.Generator,
    candidates: Sequence[int] | None = None,
    titles: bool = True,
) -> Row:
    """The question of one person at one step; the first candidate is what was taken.

    Args:
        candidates: in place of drawn ones.
        titles: whether prompts show titles; else the numbers of items stand for them.
    """
    history = person.history[:step].tolist()
    chosen = list(candidates) if candidates else _candidates(world, person, step, rng)
    return _row(world, history, chosen, [item == chosen[0] for item in chosen], options, rng, titles)


def _row(
    world: SeenWorld,
    history: Sequence[int],
    chosen: Sequence[int],
    liked: Sequence[bool],
    options: PromptOptions,
    rng: np.random.Generator,
    titles: bool,
) -> Row:
    """The question about each candidate after a history."""
    items = world.shown(options.fields, options.item_summaries, titles)
    prompter = Prompter(items, options, TEMPLATES)
    preference = None
    if options.summary != "none":
        state = preferences.first(world.world, history[-8:])
        preference = preferences.sentence(world.world, state, rng)
    chats = [prompter.yes_no(history, item, preference) for item in chosen]
    worth = _evidence(world, items, history, chosen, preference, options)
    return Row("recommend", chats, liked=liked, worth=torch.tensor(worth, dtype=torch.float32))


def _evidence(
    world: SeenWorld,
    items: WorldItems,
    history: Sequence[int],
    candidates: Sequence[int],
    preference: str | None,
    options: PromptOptions,
) -> Floats:
    """What the prompts show that speaks for each candidate."""
    listed = history[max(0, len(history) - options.listed) :]
    of_history, of_candidates = options.images in ("history", "both"), options.images in ("candidate", "both")

    def seen(item: int, picture: bool, full: bool, described: bool) -> dict[str, tuple[str, ...]]:
        words = items.words(world.world, item, full, described)
        return evidence.visible(world.world, item, words, picture and item in world.pictured)

    return evidence.evidence(
        world.world,
        [seen(item, of_history, options.history_text == "full", False) for item in listed],
        [seen(item, of_candidates, options.item_text == "full", options.item_summaries) for item in candidates],
        preferences.named(world.world, preference) if preference else {},
    )


def _candidates(world: SeenWorld, person: Person, step: int, rng: np.random.Generator) -> list[int]:
    """What was taken, then two of its kind, two that are liked as much or more, and others at random."""
    worth = person.utility(step)
    target = int(person.history[step])
    taken = set(person.history[: step + 1].tolist())
    on_sale = [item for item in range(1, len(worth)) if item not in taken and np.isfinite(worth[item])]
    mates = [item for item in world.blocks[target] if item not in taken and np.isfinite(worth[item])]
    best = sorted(on_sale, key=lambda item: -worth[item])[: max(6, len(on_sale) // 20)]
    drawn: list[int] = []
    for source, number in ((mates, 2), (best, 2), (on_sale, CANDIDATES - 1)):
        free = [item for item in source if item not in drawn]
        take = min(number, len(free), CANDIDATES - 1 - len(drawn))
        drawn += rng.choice(free, take, replace=False).tolist()
    return [target, *drawn]


def _person(world: World, rng: np.random.Generator) -> Person:
    return world.people[int(rng.integers(len(world.people)))]


def _some_fields(world: SeenWorld, rng: np.random.Generator) -> list[str]:
    """Some of the world's fields, in their order."""
    names = list(world.world.items[0].fields)
    return [name for name in names if rng.random() < 0.6]


def _prompt_options(world: SeenWorld, rng: np.random.Generator) -> tuple[PromptOptions, bool]:
    """How the question is put: with which pictures, texts and preferences, and whether with titles.

    Where words say as much as pictures do, a model learns to read and not to look: so that some rows have no words.
    """
    images = str(rng.choice(["both", "candidate", "none"], p=(0.6, 0.15, 0.25))) if world.pictured else "none"
    if images == "both" and rng.random() < NO_WORDS:
        listed = int(rng.integers(3, 9))
        return PromptOptions(history_items=listed, images="both", history_images=listed), False
    summary = "recurrent" if rng.random() < 0.2 else "none"
    listed = int(rng.integers(3, 9)) if summary == "none" or rng.random() < 0.5 else 0
    if images == "both" and listed == 0:
        images = "candidate"
    full = bool(rng.random() < 0.7)
    options = PromptOptions(
        summary=summary,
        history_items=listed,
        images=images,
        history_images=max(listed, 1),
        item_text="full" if full else "title",
        history_text="full" if full else "title",
        item_summaries=bool(world.pictured) and bool(rng.random() < 0.15),
        fields=tuple(_some_fields(world, rng)),
    )
    return options, True
