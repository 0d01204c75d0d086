"""What a domain of words consists of: aspects with their values, and templates of titles."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from string import Formatter

import numpy as np

Namer = Callable[[np.random.Generator], str]
Shown = Callable[[str, np.random.Generator], str]


def capitals(value: str, rng: np.random.Generator) -> str:
    """A value as a field or a title writes it.

    >>> capitals("the science-fiction shelf", np.random.default_rng(0))
    'Science-Fiction Shelf'
    """
    return re.sub(r"(?<![\w'])[a-z]", lambda found: found[0].upper(), value.removeprefix("the "))


def unchanged(value: str, rng: np.random.Generator) -> str:
    """The value itself: names are written in one way only."""
    return value


@dataclass(frozen=True)
class Aspect:
    """One of the ways in which items of a domain differ.

    Attributes:
        wording: how a preference names it, with one ``{}``.
        values: its words, or what draws names of people, bands and brands.
        least, most: an item has at least and at most this many values of it.
        field: whether it is a field too, or is shown by the title only.
        shown: how a field or a title writes a value.
    """

    wording: str
    values: tuple[str, ...] | Namer
    least: int = 1
    most: int = 1
    field: bool = True
    shown: Shown = capitals


@dataclass(frozen=True)
class Domain:
    """A kind of catalogue.

    Attributes:
        name: such as ``films``.
        aspects: in the order of ``World.wording``; the first is in every catalogue.
        titles: templates; a slot is a pool or an aspect, with a digit for its second, third ... word: ``{noun1}``.
        pools: words by slot.
        ending: closes every title, where the catalogue has its aspects.
    """

    name: str
    aspects: Mapping[str, Aspect]
    titles: tuple[str, ...]
    pools: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ending: str = ""


def slots(template: str) -> list[tuple[str, int]]:
    """The slots of a template: pool or aspect, and which word of it.

    >>> slots("{adjective} {noun} and {noun1}")
    [('adjective', 0), ('noun', 0), ('noun', 1)]
    """
    names = [name for _, name, _, _ in Formatter().parse(template) if name]
    words = [name.rstrip("0123456789") for name in names]
    return [(word, int(name.removeprefix(word) or 0)) for word, name in zip(words, names, strict=True)]
