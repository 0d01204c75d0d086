"""People who buy what they like the look of, while what they like drifts.

A user's taste is a vector over the factors of a look (:data:`palate.data.demo.looks.FACTORS`) that does a random walk:
``taste[k + 1] = a * taste[k] + sqrt(1 - a^2) * noise``, so it keeps its spread and forgets its past. At step ``k`` the
user takes, among the items on sale and not yet taken, the one with the highest

    utility = strength * <taste[k], look> + category liking + material liking + popularity
              + (a bonus for the category of the previous step, within one visit) + Gumbel noise

which is sampling from the softmax of the utility.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from palate.data.demo.looks import FACTORS

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

DAY = 86_400_000
END = 1_767_225_600_000  # the log ends with 2025 (Unix milliseconds)
SPAN_DAYS = 540
LAUNCHES = ((0.12, 45), (0.12, 4))  # share of the items, and within how many last days of the log they appear
STRENGTH = 1.8
DRIFT = 0.96
VISIT_BONUS = 1.2
NOVELTY = 0.9


@dataclass(frozen=True)
class Shop:
    """The items as the simulation sees them; all arrays are ``[items]`` (0-based), ``looks`` ``[items, factors]``."""

    looks: Floats
    category: Ints
    natural: Floats
    popularity: Floats
    released: Ints


@dataclass(frozen=True)
class Log:
    """What happened, user after user, oldest first.

    Attributes:
        offsets: int64 ``[users + 1]``.
        items: int64 ``[interactions]``, 0-based.
        times: int64 ``[interactions]``, Unix milliseconds.
        taste: ``[interactions, factors]``, the taste behind each step.
        category_liking: ``[users, categories]``.
        natural_liking: ``[users]``.
    """

    offsets: Ints
    items: Ints
    times: Ints
    taste: Floats
    category_liking: Floats
    natural_liking: Floats


def popularity_and_release(items: int, rng: np.random.Generator) -> tuple[Floats, Ints]:
    """Skewed popularity, and when each item goes on sale: most always were, some are new, some brand-new."""
    popularity = rng.normal(0, 0.8, items)
    draw, ago = rng.random(items), rng.random(items)
    released = np.zeros(items, np.int64)
    start = 0.0
    for share, days in LAUNCHES:
        new = (draw >= start) & (draw < start + share)
        released[new] = END - (ago[new] * days * DAY).astype(np.int64)
        start += share
    return popularity + np.where(released > 0, NOVELTY, 0.0), released


def visit_times(lengths: Ints, rng: np.random.Generator) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Times of every step, ``[users, longest]`` right-aligned in time, and which steps continue a visit.

    Half of the users are still active in the last three weeks, most of these to the end; the others left earlier.
    Within a visit minutes pass, between visits days.
    """
    users, longest = len(lengths), int(lengths.max())
    same_visit = rng.random((users, longest)) < 0.35
    minutes = 60_000 * rng.uniform(0.5, 20, (users, longest))
    days = DAY * rng.lognormal(np.log(5), 1.0, (users, longest))
    gaps = np.where(same_visit, minutes, days).astype(np.int64)
    gaps[:, 0] = 0
    same_visit[:, 0] = False
    active = rng.random(users) < 0.5
    ago = np.where(active, 21 * rng.random(users) ** 2, SPAN_DAYS * (1 - np.sqrt(rng.random(users))))
    elapsed = np.cumsum(gaps, axis=1)
    total = elapsed[np.arange(users), lengths - 1]
    start = END - 1 - (ago * DAY).astype(np.int64) - total
    return start[:, None] + elapsed, same_visit


def simulate(shop: Shop, users: int, rng: np.random.Generator) -> Log:
    """Let ``users`` people shop; every one takes 5 to 40 different items (fewer where the shop is small)."""
    most = min(40, len(shop.category) // 2)
    lengths = np.clip(rng.lognormal(np.log(10), 0.5, users), 5, most).astype(np.int64)
    times, same_visit = visit_times(lengths, rng)
    categories = int(shop.category.max()) + 1
    category_liking = rng.normal(0, 0.7, (users, categories))
    natural_liking = rng.normal(0, 0.6, users)
    fixed = category_liking[:, shop.category] + natural_liking[:, None] * shop.natural + shop.popularity

    taste = rng.normal(0, 1, (users, len(FACTORS)))
    taken = np.zeros((users, len(shop.category)), bool)
    longest = int(lengths.max())
    chosen = np.zeros((users, longest), np.int64)
    path = np.zeros((users, longest, len(FACTORS)))
    for step in range(longest):
        noise = rng.normal(0, 1, taste.shape)
        here = np.flatnonzero(lengths > step)  # users who still shop
        path[:, step] = taste
        utility = fixed[here] + STRENGTH * taste[here] @ shop.looks.T + rng.gumbel(size=(len(here), len(shop.category)))
        if step:
            last = shop.category[chosen[here, step - 1]]
            utility += VISIT_BONUS * same_visit[here, step, None] * (shop.category == last[:, None])
        utility[taken[here] | (shop.released > times[here, step, None])] = -np.inf
        chosen[here, step] = utility.argmax(axis=1)
        taken[here, chosen[here, step]] = True
        taste = DRIFT * taste + np.sqrt(1 - DRIFT**2) * noise
    done = np.arange(longest) < lengths[:, None]
    return Log(
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=chosen[done],
        times=times[done],
        taste=path[done],
        category_liking=category_liking,
        natural_liking=natural_liking,
    )
