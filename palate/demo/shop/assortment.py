"""What the shop sells: brands with a hand of their own, lines of products, each in one colour or several.

How many colours a line has, how uneven popularity is, and how much arrives when: docs/demo.md sets the figures beside
those of real shops.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from palate.demo.shop.choice import DAY, Floats, Ints, Shop
from palate.demo.shop.looks import PATTERNS, SCHEMES, Look, draw_colour, draw_look
from palate.demo.shop.people import END, WEEKS
from palate.demo.shop.style import DEMO, ShopStyle
from palate.demo.shop.words import Words, write_line, write_words

ONE_COLOUR = 0.57  # a line has 1 + geometric colours: 1.75 on average
AT_OPENING = 0.4  # share of lines on sale from the beginning; the others come in weekly, more and more of them
LEAST_AT_OPENING = 12  # items, for tiny shops
LATER_COLOUR = 0.25  # share of further colours that come later than their line
_KIND_SHARES = np.array([0.6, 0.25, 0.15])  # of what a brand makes


@dataclass(frozen=True)
class Product:
    """One product in one colour. ``brand`` and ``line`` are numbers."""

    name: str
    category: str
    brand: int
    line: int
    look: Look
    material: str
    words: Words
    pictured: bool


def draw_assortment(items: int, rng: np.random.Generator, style: ShopStyle = DEMO) -> list[Product]:
    """``items`` products, line by line."""
    categories = list(style.kinds)
    shares = _KIND_SHARES[: len(categories)] / _KIND_SHARES[: len(categories)].sum()
    brands = min(max(items // style.items_per_brand, 4), len(style.brands))
    sizes = rng.lognormal(0, 0.7, brands)
    kinds = [rng.permutation(len(categories))[:3] for _ in range(brands)]
    hands = [rng.permutation(len(PATTERNS))[:4] for _ in range(brands)]
    makes = rng.choice([0.15, 0.85], brands)
    drawn: list[Product] = []
    line = 0
    while len(drawn) < items:
        brand = int(rng.choice(brands, p=sizes / sizes.sum()))
        category = categories[int(rng.choice(kinds[brand], p=shares))]
        pattern = int(rng.choice(hands[brand])) if rng.random() < 0.6 else int(rng.integers(len(PATTERNS)))
        first = draw_look(rng, pattern=list(PATTERNS)[pattern], round_=bool(rng.random() < makes[brand]))
        said = write_line(category, first, rng, style)
        colours = min(int(rng.geometric(ONE_COLOUR)), len(SCHEMES), items - len(drawn))
        for scheme in rng.permutation(list(SCHEMES))[:colours]:
            look = draw_colour(first, str(scheme), rng)
            words = write_words(said, style.brands[brand], category, look, rng, style)
            pictured = bool(rng.random() >= style.no_picture)
            drawn.append(Product(f"p{len(drawn) + 1:04d}", category, brand, line, look, said.material, words, pictured))
        line += 1
    return drawn


def draw_shop(goods: list[Product], rng: np.random.Generator, style: ShopStyle = DEMO) -> Shop:
    """The same for the simulation, with popularity and the week in which each item arrives."""
    categories = list(style.kinds)
    brand = np.array([item.brand for item in goods])
    line = np.array([item.line for item in goods])
    return Shop(
        looks=np.stack([item.look.vector() for item in goods]),
        category=np.array([categories.index(item.category) for item in goods]),
        brand=brand,
        line=line,
        natural=np.array([1.0 if item.words.natural else -1.0 for item in goods]),
        popularity=_popularity(brand, line, rng, style),
        released=_released(line, rng),
    )


def _popularity(brand: Ints, line: Ints, rng: np.random.Generator, style: ShopStyle) -> Floats:
    of_brand = rng.normal(0, style.brand_popularity, brand.max() + 1)
    of_line = rng.normal(0, style.line_popularity, line.max() + 1)
    popularity: Floats = of_brand[brand] + of_line[line] + rng.normal(0, style.item_popularity, len(line))
    return popularity


def _released(line: Ints, rng: np.random.Generator) -> Ints:
    """Unix milliseconds at the beginning of a week of the log, 0 for what was there before."""
    lines = int(line.max()) + 1
    week = np.where(rng.random(lines) < AT_OPENING, 0, 1 + ((WEEKS - 1) * np.sqrt(rng.random(lines))).astype(np.int64))[
        line
    ]
    further = np.concatenate([[False], line[1:] == line[:-1]])
    later = further & (rng.random(len(line)) < LATER_COLOUR)
    week[later] = rng.integers(week[later], WEEKS)
    week[np.argsort(week, kind="stable")[:LEAST_AT_OPENING]] = 0
    return np.where(week == 0, 0, END - (WEEKS - week) * 7 * DAY).astype(np.int64)
