"""Preferences in words: a rule that says what items show of a taste, and the sentence for it.

A state is a function of what a prompt shows, the block of items and the state so far, so that it can be learnt. Both
read ``World.wording``: aspects that it lacks are neither counted nor named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from palate.pretraining.world import World
from palate.pretraining.written_tastes import named, true_tastes

__all__ = ["State", "first", "named", "next", "sentence", "split_faded", "true_tastes"]

FIRST_NAMED, OTHERS_NAMED, FADED = 3, 2, 2  # at most this many values of the first aspect, of another, and faded ones
NEWEST = 1.5  # what the newest item of a block counts; the oldest counts 1
ENOUGH = 2.0  # a value is named from this weight on: seen twice
ENOUGH_AT_FIRST = {1: 1.0, 2: NEWEST}  # by items, where so few are all that is known
KEPT = (2.0, 1.5, 1.0)  # what the named values count in the next block, strongest first

_LIKES = ("Likes", "Prefers", "Enjoys", "Is drawn to", "Mostly picks")
_FADES = (
    "Less drawn to {} than before.",
    "Lost interest in {}.",
    "Less keen on {} than before.",
    "Moved away from {}.",
)


@dataclass(frozen=True)
class State:
    """What a preference names.

    Attributes:
        named: values that are liked by aspect, strongest first; aspects without any are missing.
        faded: aspect and value of what was named before and is no longer.
    """

    named: Mapping[str, tuple[str, ...]]
    faded: tuple[tuple[str, str], ...] = ()


def first(world: World, block: Sequence[int]) -> State:
    """What a first block of items, oldest first, shows of a taste.

    A value is named that was seen twice. Where none of the first aspect was, its two newest are named. Of one item
    everything is named, and of two what the newer one has.
    """
    return next(world, block, State({}))


def next(world: World, block: Sequence[int], state: State) -> State:
    """What a block of items makes of the state before it.

    A value counts 1 in the oldest item of the block, rising to 1.5 in the newest, and 2, 1.5 or 1 where it was named
    first, second or third. From 2 on it is named. A value fades that was named, was not seen and is named no longer.
    Where one value alone would be named, what else the newest item has is named too: one word is no preference.
    """
    enough = ENOUGH if state.named else ENOUGH_AT_FIRST.get(len(block), ENOUGH)
    named: dict[str, tuple[str, ...]] = {}
    faded: list[tuple[str, str]] = []
    for place, aspect in enumerate(world.wording):
        before = state.named.get(aspect, ())
        seen = _seen(world, block, aspect)
        weights = dict(seen)
        for value, kept in zip(before, KEPT, strict=False):
            weights[value] = weights.get(value, 0.0) + kept
        order = sorted(weights, key=lambda value: -round(weights[value], 6))  # equal ones: newest first
        chosen = [value for value in order if weights[value] >= enough][: OTHERS_NAMED if place else FIRST_NAMED]
        if not chosen and not place:
            chosen = order[:2]
        if chosen:
            named[aspect] = tuple(chosen)
        faded += [(aspect, value) for value in before if value not in seen and value not in chosen]
    if sum(map(len, named.values())) == 1:
        newest = world.items[block[-1] - 1].traits
        others = {aspect: newest[aspect][:1] for aspect in world.wording if aspect not in named and newest.get(aspect)}
        named = {aspect: (named | others)[aspect] for aspect in world.wording if aspect in named or aspect in others}
    return State(named, tuple(faded[:FADED]))


def _seen(world: World, block: Sequence[int], aspect: str) -> dict[str, float]:
    """The weight of each value in a block, the newest item's values first."""
    weights: dict[str, float] = {}
    for item, weight in reversed([*zip(block, np.linspace(1.0, NEWEST, len(block)), strict=True)]):
        for value in world.items[item - 1].traits.get(aspect, ()):
            weights[value] = weights.get(value, 0.0) + float(weight)
    return weights


def sentence(world: World, state: State, rng: np.random.Generator | None = None) -> str:
    """A state in one or two sentences, "Likes folk songs by Ana Rill, from the sixties. Lost interest in disco songs."

    Args:
        rng: chooses among verbs that say the same; None: always the first. The rest of the words does not change.
    """
    likes, fades = (options[0 if rng is None else rng.integers(len(options))] for options in (_LIKES, _FADES))
    opening, *others = world.wording
    parts = [world.wording[aspect].format(_listed(state.named[aspect])) for aspect in others if aspect in state.named]
    what = _opening(world.wording[opening], state.named.get(opening, ()))
    text = f"{likes} {' '.join([what, ', '.join(parts)]).strip()}."
    if not state.faded:
        return text
    of_first = [value for aspect, value in state.faded if aspect == opening]
    gone = [world.wording[opening].format(_listed(of_first))] if of_first else []
    gone += [value for aspect, value in state.faded if aspect != opening]
    return f"{text} {fades.format(_listed(gone))}"


def split_faded(text: str) -> tuple[str, str]:
    """A preference's part on what is liked, and that on what has faded.

    >>> split_faded("Likes folk songs. Lost interest in disco songs.")
    ('Likes folk songs.', 'Lost interest in disco songs.')
    """
    starts = [text.find(one.split(" {}")[0]) for one in _FADES]
    cut = min((one for one in starts if one >= 0), default=len(text))
    return text[:cut].strip(), text[cut:].strip()


def _opening(wording: str, values: Sequence[str]) -> str:
    """What a sentence is about, where nothing of the first aspect is known too: "films", or "things"."""
    return wording.format(_listed(values)).strip() or "things"


def _listed(values: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(values[:-1]), *values[-1:]]))
