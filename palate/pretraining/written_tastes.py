"""Measuring preferences that were written: which tastes a text names, and which a person has."""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np

from palate.pretraining.words.times import spellings
from palate.pretraining.world import Person, World

LEAST_ITEMS = 3  # fewer items say little about how much a value is liked


def named(world: World, text: str) -> dict[str, set[str]]:
    """The trait values of a world that a text names, by the aspects of ``World.wording``.

    Whole words, singular or plural, in any case; of values within one another ("science fiction", "fiction") only the
    longest counts. A year names its decade or century. What a text says has faded is named too: see
    :func:`~palate.pretraining.preferences.split_faded`.
    """
    spelt: dict[str, set[tuple[str, str]]] = {}
    for aspect, values in _values(world).items():
        for value in values:
            for form in _forms(value):
                spelt.setdefault(form, set()).add((aspect, value))
    found: dict[str, set[str]] = {aspect: set() for aspect in world.wording}
    if spelt:
        longest_first = "|".join(re.escape(form) for form in sorted(spelt, key=len, reverse=True))
        for match in re.finditer(rf"(?<!\w)(?:{longest_first})(?!\w)", " ".join(text.lower().split())):
            for aspect, value in spelt[match[0]]:
                found[aspect].add(value)
    return found


def liking(world: World, person: Person, step: int) -> dict[str, dict[str, float]]:
    """How much each value is liked at a step, by the aspects of ``World.wording``.

    It is the mean utility of the items that show the value, minus that of all items on sale. Values that fewer than
    three items on sale show are left out.
    """
    utility = person.utility(step)[1:]
    on_sale = np.isfinite(utility)
    base = float(utility[on_sale].mean())
    found: dict[str, dict[str, float]] = {}
    for aspect, values in _values(world).items():
        worth = {value: [utility[item] for item in items if on_sale[item]] for value, items in values.items()}
        found[aspect] = {
            value: float(np.mean(some)) - base for value, some in worth.items() if len(some) >= LEAST_ITEMS
        }
    return found


def true_tastes(world: World, person: Person, step: int, top: int = 2) -> dict[str, tuple[str, ...]]:
    """The values that a person likes most at a step, by the aspects of ``World.wording``, strongest first.

    Values that lower utility are left out; see :func:`liking`.

    Args:
        top: at most this many values of an aspect.
    """
    tastes = {}
    for aspect, gains in liking(world, person, step).items():
        best = sorted(gains, key=lambda value: -gains[value])[:top]
        tastes[aspect] = tuple(value for value in best if gains[value] > 0)
    return tastes


def _values(world: World) -> dict[str, dict[str, list[int]]]:
    """By aspect, the values and the places in ``World.items`` that show them."""
    values: dict[str, dict[str, list[int]]] = {aspect: {} for aspect in world.wording}
    for place, item in enumerate(world.items):
        for aspect, known in values.items():
            for value in item.traits.get(aspect, ()):
                known.setdefault(value, []).append(place)
    return values


@lru_cache(maxsize=10_000)
def _forms(value: str) -> frozenset[str]:
    """Spellings of a value in lower case: with its article and without, singular and plural, periods in figures."""
    word = re.sub(r"^(the|a|an) ", "", value.lower())
    return spellings(value) | {value.lower(), word, _plural(word), *_singulars(word)}


def _plural(word: str) -> str:
    if re.search(r"[^aeiou]y$", word):
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "x", "z", "ch", "sh")) else "s")


def _singulars(word: str) -> set[str]:
    if word.endswith("ies") and len(word) > 4:
        return {word[:-3] + "y"}
    if word.endswith("ves"):
        return {word[:-3] + "f", word[:-3] + "fe", word[:-1]}
    if word.endswith(("sses", "xes", "ches", "shes")):
        return {word[:-2]}
    return {word[:-1]} if re.search(r"[^s]s$", word) and len(word) > 3 else set()
