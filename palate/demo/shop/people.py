"""People who come back, buy what they like, and whose taste in looks drifts.

A user's taste is a vector over the factors of a look (:data:`palate.demo.shop.looks.FACTORS`) that does a random walk:
``taste[k + 1] = a * taste[k] + sqrt(1 - a^2) * noise``, so it keeps its spread and forgets its past. What is liked of
kinds, brands and materials stays. What is bought is drawn as :mod:`palate.demo.shop.choice` describes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from palate.demo.shop.choice import DAY, Floats, Ints, Likings, Shop, steady, utility
from palate.demo.shop.looks import FACTORS
from palate.demo.shop.style import DEMO, ShopStyle
from palate.progress import track

END = 1_767_225_600_000  # the log ends with 2025 (Unix milliseconds)
WEEKS = 52
SAME_VISIT = 0.45
_AT_A_TIME = 250  # users: their choices are independent, and a matrix of [users, items] stays small


@dataclass(frozen=True)
class PurchaseLog:
    """What happened, user after user, oldest first.

    Attributes:
        offsets: int64 ``[users + 1]``.
        items: int64 ``[interactions]``, 0-based.
        times: int64 ``[interactions]``, Unix milliseconds.
        previous: int64 ``[interactions]``, the item bought just before in the same visit, -1 where a visit begins.
        taste: float64 ``[interactions, factors]``, the taste behind each step.
        likings: of each user.
    """

    offsets: Ints
    items: Ints
    times: Ints
    previous: Ints
    taste: Floats
    likings: Likings


def history_lengths(users: int, most: int, rng: np.random.Generator, style: ShopStyle = DEMO) -> Ints:
    """int64 ``[users]``: in the demo, half of the people buy five or six things, a few buy dozens, as in shops."""
    further = rng.lognormal(np.log(style.typical_further), style.further_spread, users)
    return np.minimum(style.shortest + further, min(style.longest, most)).astype(np.int64)


def visit_times(lengths: Ints, rng: np.random.Generator) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Times of every step, ``[users, longest]``, and which steps continue a visit.

    Half of the users are still active in the last three weeks, most of these to the end; the others left earlier.
    Within a visit minutes pass, between visits days.
    """
    users, longest = len(lengths), int(lengths.max())
    same_visit = rng.random((users, longest)) < SAME_VISIT
    minutes = 60_000 * rng.uniform(0.5, 20, (users, longest))
    days = DAY * rng.lognormal(np.log(9), 1.0, (users, longest))
    gaps = np.where(same_visit, minutes, days).astype(np.int64)
    gaps[:, 0] = 0
    same_visit[:, 0] = False
    active = rng.random(users) < 0.5
    ago = np.where(active, 21 * rng.random(users) ** 2, 7 * WEEKS * (1 - np.sqrt(rng.random(users))))
    elapsed = np.cumsum(gaps, axis=1)
    total = elapsed[np.arange(users), lengths - 1]
    start = END - 1 - (ago * DAY).astype(np.int64) - total
    return start[:, None] + elapsed, same_visit


def simulate(shop: Shop, users: int, rng: np.random.Generator, style: ShopStyle = DEMO) -> PurchaseLog:
    """Let ``users`` people shop; each takes different items, fewer where the shop is small."""
    always = int((shop.released == 0).sum())  # on sale whenever somebody comes: nobody runs out of choice
    lengths = history_lengths(users, min(always - 1, len(shop.category) // 2), rng, style)
    times, same_visit = visit_times(lengths, rng)
    likings = Likings(
        rng.normal(0, style.kind_liking, (users, int(shop.category.max()) + 1)),
        rng.normal(0, style.brand_liking, (users, int(shop.brand.max()) + 1)),
        rng.normal(0, style.natural_liking, users),
    )
    blocks = [np.arange(start, min(start + _AT_A_TIME, users)) for start in range(0, users, _AT_A_TIME)]
    parts = [
        _shop_for(shop, _of(likings, some), lengths[some], times[some], same_visit[some], rng, style)
        for some in track(blocks, "People buying")
    ]
    items, previous, taste = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return PurchaseLog(
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=items,
        times=times[np.arange(times.shape[1]) < lengths[:, None]],
        previous=previous,
        taste=taste,
        likings=likings,
    )


def _of(likings: Likings, users: Ints) -> Likings:
    return Likings(likings.category[users], likings.brand[users], likings.natural[users])


def _shop_for(
    shop: Shop,
    likings: Likings,
    lengths: Ints,
    times: Ints,
    same_visit: npt.NDArray[np.bool_],
    rng: np.random.Generator,
    style: ShopStyle,
) -> tuple[Ints, Ints, Floats]:
    """Items, previous items and tastes of some users, each user's steps together."""
    users, longest = len(lengths), int(lengths.max())
    always = steady(shop, likings)
    taste = rng.normal(0, 1, (users, len(FACTORS)))
    taken = np.zeros((users, len(shop.category)), bool)
    chosen = np.zeros((users, longest), np.int64)
    before = np.full((users, longest), -1, np.int64)
    path = np.zeros((users, longest, len(FACTORS)))
    for step in range(longest):
        noise = rng.normal(0, 1, taste.shape)
        here = np.flatnonzero(lengths > step)  # users who still shop
        path[:, step] = taste
        if step:
            before[here, step] = np.where(same_visit[here, step], chosen[here, step - 1], -1)
        worth = utility(shop, always[here], taste[here], times[here, step], before[here, step], style.strength)
        worth += rng.gumbel(size=worth.shape)
        worth[taken[here]] = -np.inf
        chosen[here, step] = worth.argmax(axis=1)
        taken[here, chosen[here, step]] = True
        taste = style.drift * taste + np.sqrt(1 - style.drift**2) * noise
    done = np.arange(longest) < lengths[:, None]
    return chosen[done], before[done], path[done]
