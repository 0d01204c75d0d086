"""The truth of the demo's own shop in words: what an item is, what a person likes most, and what a text names of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from palate.demo.shop.looks import PATTERNS, SCHEMES, Look
from palate.demo.shop.truth import Truth
from palate.demo.shop.vocabulary import BRANDS, COLOURS, MATERIALS

# Aspect -> its words, in the order of the generator's indices.
WORDS: dict[str, tuple[str, ...]] = {
    "kind": tuple(MATERIALS),
    "colour": tuple(COLOURS[scheme] for scheme in SCHEMES),
    "pattern": tuple("no pattern" if pattern == "plain" else pattern for pattern in PATTERNS),
    "brand": BRANDS,
}
# Columns of a look: the first three are its colour, the next three its pattern.
_COLOUR, _PATTERN = slice(0, 3), slice(3, 6)
_FADED = re.compile(r"\bless\b.*", re.IGNORECASE | re.DOTALL)


def item_traits(truth: Truth, item: int) -> dict[str, str]:
    """Kind, colour, pattern and brand of an item; colour and pattern are those nearest to its look.

    >>> truth = Truth(*(np.zeros((2, 8)) for _ in range(2)), *(np.zeros(2, int) for _ in range(8)),
    ...     *(np.zeros((1, 40)) for _ in range(2)), np.zeros(1))
    >>> truth.look[1] = Look("lagoon", "stripes", True, 0.5, SCHEMES["lagoon"], 0).vector()
    >>> item_traits(truth, 1)
    {'kind': 'mug', 'colour': 'teal', 'pattern': 'stripes', 'brand': 'Atelier Nord'}
    """
    look = truth.look[item]
    nearest = {
        "kind": int(truth.category[item]),
        "colour": int(((_colours() - look[_COLOUR]) ** 2).sum(axis=1).argmin()),
        "pattern": int(((_patterns() - look[_PATTERN]) ** 2).sum(axis=1).argmin()),
        "brand": int(truth.brand[item]),
    }
    return {aspect: WORDS[aspect][index] for aspect, index in nearest.items()}


def top_tastes(truth: Truth, user: int, row: int, count: int = 2) -> dict[str, list[str]]:
    """What a person likes most of every aspect that the shop has, at the moment of an interaction, best first.

    Args:
        user: row of the user table.
        row: of the interactions; the taste in looks is that of this moment, the rest stays.
        count: words per aspect.
    """
    taste = truth.taste[row]
    liking = {
        "kind": truth.category_liking[user],
        "colour": _colours() @ taste[_COLOUR],
        "pattern": _patterns() @ taste[_PATTERN],
        "brand": truth.brand_liking[user],
    }
    everything = {"colour": range(len(COLOURS)), "pattern": range(len(PATTERNS))}
    sold = {"kind": set(truth.category[1:].tolist()), "brand": set(truth.brand[1:].tolist()), **everything}
    return {
        aspect: [WORDS[aspect][int(index)] for index in np.argsort(-values, kind="stable") if index in sold[aspect]][
            :count
        ]
        for aspect, values in liking.items()
    }


def named(text: str, aspects: Sequence[str] = ("kind", "colour", "pattern")) -> dict[str, list[str]]:
    """The words of each aspect that a text has, in the singular or the plural.

    >>> named("A round mug in teal with stripes.")
    {'kind': ['mug'], 'colour': ['teal'], 'pattern': ['stripes']}
    >>> named("Likes phone cases, no cream.")
    {'kind': ['phone case'], 'colour': ['cream'], 'pattern': []}
    """
    return {aspect: [word for word in WORDS[aspect] if _spotted(word).search(text)] for aspect in aspects}


def liked(text: str) -> str:
    """A written preference up to what it says is liked less than before.

    >>> liked("Likes mugs in teal. Less drawn to rust than before.")
    'Likes mugs in teal. '
    """
    return _FADED.sub("", text)


def in_words(traits: Mapping[str, Sequence[str]]) -> str:
    """Words by aspect in one line: ``mug, vase; teal, navy; stripes``."""
    return "; ".join(", ".join(words) for words in traits.values() if words)


@cache
def _spotted(word: str) -> re.Pattern[str]:
    return re.compile(rf"\b{re.escape(word)}s?\b", re.IGNORECASE)


@cache
def _colours() -> npt.NDArray[np.float64]:
    """float64 ``[colours, 3]``: the middle of each colour family."""
    looks = [Look(scheme, "plain", True, 0.5, ground, 0.0) for scheme, ground in SCHEMES.items()]
    return np.stack([look.vector()[_COLOUR] for look in looks])


@cache
def _patterns() -> npt.NDArray[np.float64]:
    """float64 ``[patterns, 3]``."""
    ground = next(iter(SCHEMES.values()))
    return np.stack([Look("ember", pattern, True, 0.5, ground, 0.0).vector()[_PATTERN] for pattern in PATTERNS])
