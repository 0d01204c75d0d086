"""How a person chooses: the one formula that the simulation draws from and the oracle ranks by.

The utility of an item for a user at a moment is

    strength * <taste, look> + liking of the kind, of the brand and of natural materials + popularity + novelty
    + (within a visit: a bonus for the kind, the brand and the line of what was bought just before)

and what is bought is drawn from the softmax of it over the items that are on sale and not yet taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from palate.demo.shop.style import DEMO

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

DAY = 86_400_000
# As in real shops: see palate.demo.shop.style.
NOVELTY, NOVELTY_DAYS = 1.5, 21
VISIT_KIND, VISIT_BRAND, VISIT_LINE = 0.3, 0.6, 1.5


@dataclass(frozen=True)
class Shop:
    """The items as a choice sees them.

    Attributes:
        looks: float64 ``[items, factors]``.
        category, brand, line: int64 ``[items]``, indices; a line is one product in several colours.
        natural: float64 ``[items]``: 1 for natural materials, -1 for others.
        popularity: float64 ``[items]``: how liked an item is by everybody.
        released: int64 ``[items]``, Unix milliseconds; 0 for what was there from the beginning.
    """

    looks: Floats
    category: Ints
    brand: Ints
    line: Ints
    natural: Floats
    popularity: Floats
    released: Ints


@dataclass(frozen=True)
class Likings:
    """What does not change in a person: float64 ``[users, categories]``, ``[users, brands]`` and ``[users]``."""

    category: Floats
    brand: Floats
    natural: Floats


def steady(shop: Shop, likings: Likings) -> Floats:
    """float64 ``[users, items]``: what an item is worth to a user at any time."""
    worth: Floats = likings.category[:, shop.category] + likings.brand[:, shop.brand]
    worth += likings.natural[:, None] * shop.natural + shop.popularity
    return worth


def utility(
    shop: Shop, always: Floats, taste: Floats, times: Ints, previous: Ints, strength: float = DEMO.strength
) -> Floats:
    """float64 ``[rows, items]``: what each item is worth, ``-inf`` before it is on sale.

    Args:
        always: ``[rows, items]``, :func:`steady` of the user of each row.
        taste: ``[rows, factors]`` at the moment of the choice.
        times: ``[rows]``, Unix milliseconds.
        previous: ``[rows]``, the item bought just before in the same visit, -1 where the visit begins.
        strength: how much the look weighs.
    """
    worth: Floats = always + strength * taste @ shop.looks.T
    new = np.flatnonzero(shop.released)
    age = (times[:, None] - shop.released[new]) / DAY
    worth[:, new] += np.where(age < 0, -np.inf, NOVELTY * np.exp(-np.maximum(age, 0) / NOVELTY_DAYS))
    inside = np.flatnonzero(previous >= 0)
    last = previous[inside, None]
    worth[inside] += (
        VISIT_KIND * (shop.category == shop.category[last])
        + VISIT_BRAND * (shop.brand == shop.brand[last])
        + VISIT_LINE * (shop.line == shop.line[last])
    )
    return worth
