"""People who like values of aspects, change their minds now and then, and take items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from palate.pretraining.world import Floats, Ints, Person

HISTORY = (6, 25)
_CALM = 0.15  # spread of the likings for what is neither loved nor disliked


@dataclass(frozen=True)
class Tastes:
    """What each item is worth to one person at a step; a :class:`Person`'s ``utility``.

    Attributes:
        values: float64 ``[items, values]``: how much of each value an item has.
        starts: int64 ``[changes]``: the step from which each row of ``likings`` holds; the first is 0.
        likings: float64 ``[changes, values]``.
    """

    values: Floats
    starts: Ints
    likings: Floats

    def __call__(self, step: int) -> Floats:
        """float64 ``[items + 1]``, in the unit of the Gumbel noise of a choice; padding is ``-inf``."""
        likings = self.likings[np.searchsorted(self.starts, step, side="right") - 1]
        return np.concatenate([[-np.inf], self.values @ likings])


def draw_people(values: Floats, aspects: Sequence[range], people: int, rng: np.random.Generator) -> list[Person]:
    """People with histories of 6 to 25 different items.

    An item is taken by utility, popularity and Gumbel noise. How strong likings are, how often they change and how
    unequal popularity is, differs from call to call.

    Args:
        values: float64 ``[items, values]``: how much of each value an item has.
        aspects: the columns of each aspect; likings for the first are the most common.
    """
    strength, drift = rng.uniform(2.5, 5.5), rng.uniform(0.01, 0.08)
    popularity = rng.normal(0, rng.uniform(0.1, 1.0), len(values))
    return [_person(values, aspects, popularity, strength, drift, rng) for _ in range(people)]


def _person(
    values: Floats,
    aspects: Sequence[range],
    popularity: Floats,
    strength: float,
    drift: float,
    rng: np.random.Generator,
) -> Person:
    likings = _likings(aspects, strength, rng)
    steps = int(rng.integers(HISTORY[0], HISTORY[1] + 1))
    starts, rows = [0], [likings]
    history: list[int] = []
    worth = values @ likings + popularity
    for step in range(steps):
        if step and rng.random() < drift:
            likings = _changed(likings, aspects, strength, rng)
            starts.append(step)
            rows.append(likings)
            worth = values @ likings + popularity
            worth[history] = -np.inf
        item = int(np.argmax(worth + rng.gumbel(size=len(worth))))
        worth[item] = -np.inf
        history.append(item)
    return Person(np.asarray(history, dtype=np.int64) + 1, Tastes(values, np.asarray(starts), np.stack(rows)))


def _likings(aspects: Sequence[range], strength: float, rng: np.random.Generator) -> Floats:
    likings = rng.normal(0, _CALM, aspects[-1].stop)
    loved = [rng.random() < (0.85 if number == 0 else 0.5) for number in range(len(aspects))]
    if not any(loved):
        loved[rng.integers(len(aspects))] = True
    for columns, loves in zip(aspects, loved, strict=True):
        order = rng.permutation(columns)
        many = int(rng.integers(1, 4)) if loves else 0
        likings[order[:many]] = strength * rng.uniform(0.6, 1.0, many)
        if rng.random() < 0.3:
            likings[order[many : many + 1]] = -0.7 * strength
    return likings


def _changed(likings: Floats, aspects: Sequence[range], strength: float, rng: np.random.Generator) -> Floats:
    """One loved value replaced by another of its aspect."""
    likings = likings.copy()
    old = int(rng.choice(np.flatnonzero(likings > strength / 2)))
    columns = next(columns for columns in aspects if old in columns)
    others = [column for column in columns if likings[column] <= strength / 2]
    if others:
        new = int(rng.choice(others))
        likings[new], likings[old] = likings[old], rng.normal(0, _CALM)
    return likings
