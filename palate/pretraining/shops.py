"""Drawn shops as worlds of pretraining: pictures, words and people whose truth the generator knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from palate.demo.shop.assortment import Product, draw_assortment, draw_shop
from palate.demo.shop.build import FIELDS
from palate.demo.shop.choice import Shop
from palate.demo.shop.people import PurchaseLog, simulate
from palate.demo.shop.products import render
from palate.demo.shop.vocabulary import BRANDS, COLOURS
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
    """A shop with pictures and people in it; the same arguments give the same world.

    Traits of an item are the plain truth, whatever the shop writes: ``kind`` (plural), ``product`` (the same in the
    singular), ``colour``, ``pattern``, ``shape`` ("round" or "angular"), ``material`` and ``brand``.

    Args:
        items, people: how many; the shop has at least 24 items.
        kinds: what it may sell; None: whatever pretraining draws.
        pictures: side in pixels; 0: none are drawn.
    """
    streams = [np.random.default_rng([seed, task]) for task in range(4)]
    goods = draw_assortment(items, streams[0])
    shop = draw_shop(goods, streams[1])
    log = simulate(shop, people, streams[2])
    return World(
        name=f"shop {seed}",
        items=[_item(product, pictures, streams[3]) for product in goods],
        people=[_person(shop, log, user) for user in range(people)],
        wording=WORDING,
    )


def plural(kind: str) -> str:
    """A kind of product in the plural.

    >>> plural("mug"), plural("phone case"), plural("box")
    ('mugs', 'phone cases', 'boxes')
    """
    return kind + ("es" if kind.endswith(("s", "x", "ch", "sh")) else "s")


def _item(product: Product, side: int, rng: np.random.Generator) -> Item:
    look = product.look
    return Item(
        title=product.words.title,
        fields={name: getattr(product.words, name) for name in FIELDS},
        traits={
            "kind": (plural(product.category),),
            "product": (product.category,),
            "colour": (COLOURS[look.scheme],),
            "pattern": (look.pattern,),
            "shape": ("round" if look.round else "angular",),
            "material": (product.material,),
            "brand": (BRANDS[product.brand],),
        },
        picture=render(product.category, look, side, rng) if side and product.pictured else None,
    )


@dataclass(frozen=True)
class _Worth:
    """What each item is worth to one person at a step: looks, kinds, brands and materials, and nothing else."""

    shop: Shop
    always: Floats
    taste: Floats
    times: Ints

    def __call__(self, step: int) -> Floats:
        worth = self.always + 0.8 * self.shop.looks @ self.taste[step]
        worth[self.shop.released > self.times[step]] = -np.inf
        return np.concatenate([[-np.inf], worth])


def _person(shop: Shop, log: PurchaseLog, user: int) -> Person:
    steps = slice(log.offsets[user], log.offsets[user + 1])
    liked = log.likings
    always = liked.category[user, shop.category] + liked.brand[user, shop.brand] + liked.natural[user] * shop.natural
    worth: Callable[[int], Floats] = _Worth(shop, always, log.taste[steps], log.times[steps])
    return Person(history=log.items[steps] + 1, utility=worth)
