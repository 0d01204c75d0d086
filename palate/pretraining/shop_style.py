"""Random styles of shops: other goods, other words, other people in each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from palate.demo.shop.products import KINDS
from palate.demo.shop.style import DEMO, KindWords, ShopStyle
from palate.demo.shop.vocabulary import BRANDS as DEMO_BRANDS
from palate.errors import PalateError
from palate.pretraining import shop_words as words

# Never drawn unless named: what is learnt is tested on them.
HELD_OUT_KINDS = ("teapot", "hat", "clock", "chair")
PRETRAINING_KINDS = tuple(kind for kind in KINDS if kind not in HELD_OUT_KINDS)
FEWEST_KINDS, MOST_KINDS = 5, 10


def draw_style(rng: np.random.Generator, kinds: Sequence[str] | None = None) -> ShopStyle:
    """A random style.

    Args:
        kinds: what the shop may sell, of which it sells five to ten, or all where they are fewer; None: every kind but
            the ``HELD_OUT_KINDS``.

    Raises:
        PalateError: a kind that cannot be drawn, or none.
    """
    allowed = PRETRAINING_KINDS if kinds is None else tuple(dict.fromkeys(kinds))
    unknown = sorted(set(allowed) - set(KINDS))
    if unknown or not allowed:
        raise PalateError(
            f"no product of kind {unknown[0]!r} can be drawn" if unknown else "a shop must sell something",
            f"Kinds are {', '.join(KINDS)}.",
        )
    number = min(int(rng.integers(FEWEST_KINDS, MOST_KINDS + 1)), len(allowed))
    popularity = rng.uniform(0, 1)
    return ShopStyle(
        kinds={kind: _kind_words(kind, rng) for kind in _some(allowed, number, rng)},
        brands=_brands(rng),
        items_per_brand=int(rng.integers(20, 81)),
        line_starts=_some(words.LINE_STARTS, 16, rng),
        line_ends=_some(words.LINE_ENDS, 12, rng),
        care=_some(words.CARE, 4, rng),
        colours={family: _one(choice, rng) for family, choice in words.COLOURS.items()},
        patterns=_pattern_sentences(rng),
        title=_one(words.TITLES, rng),
        pattern_named=rng.uniform(0, 0.8),
        no_text=rng.uniform(0, 0.05),
        no_picture=rng.uniform(0, 0.1),
        no_description=rng.uniform(0, 0.3),
        brand_popularity=popularity * DEMO.brand_popularity,
        line_popularity=popularity * DEMO.line_popularity,
        item_popularity=popularity * DEMO.item_popularity,
        strength=rng.uniform(0.8, 2.5),
        drift=rng.uniform(0.9, 0.995),
        kind_liking=rng.uniform(0.5, 1.8),
        brand_liking=rng.uniform(0.3, 1.3),
        natural_liking=rng.uniform(0.1, 0.9),
        shortest=int(rng.integers(5, 13)),
        typical_further=rng.uniform(1.8, 8),
        further_spread=rng.uniform(0.4, 1.0),
    )


def _one(choice: Sequence[str], rng: np.random.Generator) -> str:
    return choice[int(rng.integers(len(choice)))]


def _some(choice: Sequence[str], number: int, rng: np.random.Generator) -> tuple[str, ...]:
    return tuple(choice[int(index)] for index in rng.permutation(len(choice))[:number])


def _kind_words(kind: str, rng: np.random.Generator) -> KindWords:
    (natural, made), uses = words.KINDS[kind]
    first, second = _some(natural, 2, rng)
    third, fourth = _some(made, 2, rng)
    return KindWords((first, second, third, fourth), uses)


def _brands(rng: np.random.Generator) -> tuple[str, ...]:
    """Thirty names, half of them made of syllables; none of the demo's."""
    made = [
        _one(words.BRAND_FORMS, rng).format(_one(words.BRAND_STARTS, rng) + _one(words.BRAND_ENDS, rng))
        for _ in range(15)
    ]
    names = [name for name in dict.fromkeys([*made, *_some(words.BRANDS, 15, rng)]) if name not in DEMO_BRANDS]
    return _some(names, len(names), rng)


def _pattern_sentences(rng: np.random.Generator) -> dict[str, str]:
    sentence = _one(words.PATTERN_SENTENCES, rng)
    sentences = {pattern: sentence.format(_one(choice, rng)) for pattern, choice in words.PATTERNS.items()}
    return {**sentences, "plain": _one(words.PLAIN_SENTENCES, rng)}
