"""Drawn shops as worlds of pretraining: pictures, words and people whose truth the generator knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from palate.demo.shop.assortment import Product, draw_assortment, draw_shop
from palate.demo.shop.build import FIELDS, MIN_ITEMS
from palate.demo.shop.choice import Shop
from palate.demo.shop.people import PurchaseLog, simulate
from palate.demo.shop.products import render
from palate.demo.shop.style import ShopStyle
from palate.demo.shop.vocabulary import COLOURS
from palate.errors import PalateError
from palate.pretraining.shop_style import draw_style
from palate.pretraining.world import Floats, Ints, Item, Person, World

# The order in which a preference names what is liked.
WORDING = {
    "kind": "{}",
    "colour": "in {}",
    "pattern": "with {}",
    "material": "made of {}",
    "brand": "by {}",
}


def draw_shop_world(
    seed: int, *, items: int = 300, people: int = 100, kinds: Sequence[str] | None = None, pictures: int = 112
) -> World:
    """A shop in a style of its own, with pictures and people in it; the same arguments give the same world.

    Traits of an item are the plain truth, whatever the shop writes: ``kind`` (plural), ``product`` (the same in the
    singular), ``colour``, ``pattern``, ``shape`` ("round" or "angular"), ``material`` and ``brand``.

    Args:
        items: at least 24.
        people: at least one.
        kinds: what the shop may sell; None: every kind but the ``HELD_OUT_KINDS``.
        pictures: side in pixels; 0: none are drawn.

    Raises:
        PalateError: too few items or people, or a kind that cannot be drawn.
    """
    if items < MIN_ITEMS or people < 1:
        raise PalateError(
            f"a world of {items} items and {people} people is too small",
            f"Ask for at least {MIN_ITEMS} items and one person.",
        )
    streams = [np.random.default_rng([seed, task]) for task in range(5)]
    style = draw_style(streams[4], kinds)
    goods = draw_assortment(items, streams[0], style)
    shop = draw_shop(goods, streams[1], style)
    log = simulate(shop, people, streams[2], style)
    return World(
        name=f"shop {seed}" if kinds is None else f"shop {seed} of {', '.join(kinds)}",
        items=[_item(product, style, pictures, streams[3]) for product in goods],
        people=[_person(shop, log, user, style.strength) for user in range(people)],
        wording=WORDING,
    )


def plural(kind: str) -> str:
    """A kind of product in the plural.

    >>> plural("mug"), plural("phone case"), plural("box"), plural("scarf")
    ('mugs', 'phone cases', 'boxes', 'scarves')
    """
    if kind.endswith("f"):
        return kind[:-1] + "ves"
    return kind + ("es" if kind.endswith(("s", "x", "ch", "sh")) else "s")


def _item(product: Product, style: ShopStyle, side: int, rng: np.random.Generator) -> Item:
    look = product.look
    return Item(
        title=product.words.title,
        fields={name: getattr(product.words, name) for name in FIELDS},
        traits={
            "kind": (plural(product.category),),
            "product": (product.category,),
            "colour": (COLOURS[look.scheme],),
            "pattern": (look.pattern if look.pattern != "plain" else "no pattern",),
            "shape": ("round" if look.round else "angular",),
            "material": (product.material,),
            "brand": (style.brands[product.brand],),
        },
        picture=render(product.category, look, side, rng) if side and product.pictured else None,
    )


@dataclass(frozen=True)
class _Worth:
    """What each item is worth to one person at a step: looks, kinds, brands and materials, and nothing else."""

    shop: Shop
    always: Floats
    strength: float
    taste: Floats
    times: Ints

    def __call__(self, step: int) -> Floats:
        worth = self.always + self.strength * self.shop.looks @ self.taste[step]
        worth[self.shop.released > self.times[step]] = -np.inf
        return np.concatenate([[-np.inf], worth])


def _person(shop: Shop, log: PurchaseLog, user: int, strength: float) -> Person:
    steps = slice(log.offsets[user], log.offsets[user + 1])
    liked = log.likings
    always = liked.category[user, shop.category] + liked.brand[user, shop.brand] + liked.natural[user] * shop.natural
    worth: Callable[[int], Floats] = _Worth(shop, always, strength, log.taste[steps], log.times[steps])
    return Person(history=log.items[steps] + 1, utility=worth)
