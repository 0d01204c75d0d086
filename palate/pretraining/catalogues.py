"""Catalogues in words only: films, songs, dishes, books, toys and games, with people in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

from palate.errors import PalateError, suggest
from palate.pretraining.tastes import HISTORY, draw_people
from palate.pretraining.words import DOMAINS, Aspect, Domain
from palate.pretraining.words.domain import slots
from palate.pretraining.world import Floats, Item, World

Values = Mapping[str, tuple[str, ...]]
_TRIES = 12  # titles drawn for an item before it gets a number


def draw_word_world(seed: int, *, domain: str | None = None, items: int = 300, people: int = 100) -> World:
    """A catalogue without pictures and people in it; the same arguments give the same world.

    Traits of an item are what its title and fields show of the truth: where a field is silent and the title does not
    tell, the aspect is missing. What people like is the whole truth.

    Args:
        domain: a key of ``DOMAINS``; None: one by the seed.
        items: at least 30.
        people: at least 1.

    Raises:
        PalateError: no such domain, or too few items or people.
    """
    rng = np.random.default_rng([seed, 17])
    known = list(DOMAINS)
    name = known[rng.integers(len(known))] if domain is None else domain
    if name not in DOMAINS:
        raise PalateError(f"there is no domain '{name}'", suggest(name, known))
    if items < HISTORY[1] + 5 or people < 1:
        raise PalateError(f"a catalogue of {items} items and {people} people is too small", "Take at least 30 and 1.")
    assortment = _assortment(DOMAINS[name], items, rng)
    truth = [_values(assortment, rng) for _ in range(items)]
    taken: set[str] = set()
    goods = [_item(DOMAINS[name], assortment, values, taken, rng) for values in truth]
    matrix, columns = _matrix(assortment.values, truth)
    return World(
        name=f"{name} {seed}",
        items=goods,
        people=draw_people(matrix, columns, people, rng),
        wording={aspect: one.wording for aspect, one in assortment.aspects.items()},
    )


@dataclass(frozen=True)
class _Assortment:
    """What one catalogue has of its domain.

    Attributes:
        aspects: those that it has, the domain's first among them.
        values: its values of each.
        weights: of each aspect, how common its values are for each value of the first: float64 ``[first, values]``.
        silent: of each aspect, the share of items whose field is silent.
        labels: whether fields start with their names.
    """

    aspects: Mapping[str, Aspect]
    values: Values
    weights: Mapping[str, Floats]
    silent: Mapping[str, float]
    labels: bool


def _assortment(domain: Domain, items: int, rng: np.random.Generator) -> _Assortment:
    main, *others = domain.aspects
    kept = [name for name in others if rng.random() < 0.75] or [others[rng.integers(len(others))]]
    aspects = {name: domain.aspects[name] for name in (main, *kept)}
    values = {name: _some(one, items, rng) for name, one in aspects.items()}
    closeness = rng.uniform(0, 1.5)  # how much the first aspect says about the others
    shape = len(values[main])
    weights = {
        name: rng.gamma(1.5, size=len(some)) * np.exp(closeness * rng.normal(size=(shape, len(some))))
        for name, some in values.items()
    }
    gaps = rng.random() < 0.5
    silent = {name: float(rng.uniform(0, 0.05 if name == main else 0.35)) * gaps for name in aspects}
    return _Assortment(aspects, values, weights, silent, labels=bool(rng.random() < 0.5))


def _some(aspect: Aspect, items: int, rng: np.random.Generator) -> tuple[str, ...]:
    if callable(aspect.values):
        many = int(np.clip(items / rng.uniform(6, 16), 6, 40))
        names: dict[str, None] = {}
        while len(names) < many:
            names[aspect.values(rng)] = None
        return tuple(names)
    least = max(min(6, len(aspect.values)), len(aspect.values) // 2)
    many = int(rng.integers(least, len(aspect.values) + 1))
    return tuple(str(one) for one in rng.permutation(aspect.values)[:many])


def _values(assortment: _Assortment, rng: np.random.Generator) -> dict[str, tuple[str, ...]]:
    """The truth of one item."""
    drawn: dict[str, tuple[str, ...]] = {}
    first = 0
    for number, (name, aspect) in enumerate(assortment.aspects.items()):
        known = assortment.values[name]
        # The first aspect is as common as its weights say on average.
        weights = assortment.weights[name][first] if number else assortment.weights[name].mean(0)
        many = int(rng.integers(aspect.least, aspect.most + 1))
        chosen = rng.choice(len(known), many, replace=False, p=weights / weights.sum())
        first = first if number else int(chosen[0])
        drawn[name] = tuple(known[one] for one in chosen)
    return drawn


def _item(domain: Domain, assortment: _Assortment, values: Values, taken: set[str], rng: np.random.Generator) -> Item:
    aspects = assortment.aspects
    shown = {name: [aspects[name].shown(one, rng) for one in some] for name, some in values.items()}
    title, in_title = _title(domain, shown, taken, rng)
    fields: dict[str, str | None] = {}
    traits = {}
    for name, some in values.items():
        present = aspects[name].field and rng.random() >= assortment.silent[name]
        if aspects[name].field:
            text = ", ".join(shown[name])
            fields[name] = (f"{name.capitalize()}: {text}" if assortment.labels else text) if present else None
        seen = tuple(one for place, one in enumerate(some) if present or (name, place) in in_title)
        if seen:
            traits[name] = seen
    return Item(title, fields, traits)


def _title(
    domain: Domain, shown: Mapping[str, Sequence[str]], taken: set[str], rng: np.random.Generator
) -> tuple[str, set[tuple[str, int]]]:
    """A title that no other item has, and which values it shows: aspect and place."""

    def usable(template: str) -> bool:
        return all(name in domain.pools or place < len(shown.get(name, ())) for name, place in slots(template))

    ending = domain.ending if usable(domain.ending) else ""
    templates = [template + ending for template in domain.titles if usable(template)]
    for attempt in count():
        template = templates[rng.integers(len(templates))]
        drawn = {name: [str(one) for one in rng.permutation(pool)[:2]] for name, pool in domain.pools.items()}
        words: dict[str, Sequence[str]] = {**shown, **drawn}
        used = slots(template)
        title = template.format_map({f"{name}{place or ''}": words[name][place] for name, place in used})
        if attempt >= _TRIES:  # more items than titles: the next of a series
            title = f"{title} {attempt - _TRIES + 2}"
        if title not in taken:
            taken.add(title)
            return title, {one for one in used if one[0] in shown}
    raise AssertionError  # counting has no end


def _matrix(values: Values, truth: Sequence[Values]) -> tuple[Floats, list[range]]:
    """float64 ``[items, values]``, how much of each value an item has, and the columns of each aspect."""
    columns: dict[tuple[str, str], int] = {}
    aspects = []
    for name, some in values.items():
        start = len(columns)
        columns.update({(name, one): start + place for place, one in enumerate(some)})
        aspects.append(range(start, len(columns)))
    matrix = np.zeros((len(truth), len(columns)))
    for row, item in enumerate(truth):
        for name, some in item.items():
            matrix[row, [columns[name, one] for one in some]] = len(some) ** -0.5
    return matrix, aspects
