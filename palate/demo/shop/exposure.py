"""A drawn shop that recommends: people see a slate, look at its top, and take by their taste, or search for themselves.

At every step a logging policy shows ``slate`` items. It knows what is popular and what the person likes of kinds and
brands, and nothing of looks; noise makes it explore. Position ``p`` is looked at if all before it were and with
probability ``attention`` more (a cascade; Craswell et al., "An experimental comparison of click position-bias models",
2008). The best item that was looked at is taken if it is worth more than what else there is to do; otherwise the person
searches, and takes the best of everything on sale, as in :mod:`palate.demo.shop.people`. What is worth how much is
:mod:`palate.demo.shop.choice` with one draw of chance per step.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from palate.demo.shop.assortment import Product
from palate.demo.shop.choice import Floats, Ints, Likings, Shop, steady, utility
from palate.demo.shop.looks import FACTORS
from palate.demo.shop.people import PurchaseLog, history_lengths, visit_times
from palate.demo.shop.style import DEMO, ShopStyle

# From being shown to being taken, milliseconds: less than any two steps are apart.
_MOMENT = 10_000
_AT_A_TIME = 250


@dataclass(frozen=True)
class Exposure:
    """How the shop shows and how people look.

    Attributes:
        slate: items of a request.
        attention: chance that the next position is looked at as well; 1 looks at all.
        popularity, kinds_and_brands, noise: weights of the logging policy; noise is of Gumbel draws.
        outside: what else there is to do: an item must be worth this much (and its chance) more than the person's mean.
    """

    slate: int = 10
    attention: float = 0.85
    popularity: float = 1.0
    kinds_and_brands: float = 0.5
    noise: float = 1.0
    outside: float = 5.0


@dataclass(frozen=True)
class Showings:
    """What was shown: one request for each purchase of the log, in its order.

    Attributes:
        items: int64 ``[interactions, slate]``, 0-based, the first position first.
        looked_at: int64 ``[interactions]``, how many positions were looked at.
        taken: int64 ``[interactions]``, the place (from 0) of what was taken, -1 where the person searched.
    """

    items: Ints
    looked_at: Ints
    taken: Ints


def simulate_exposed(
    shop: Shop, users: int, rng: np.random.Generator, style: ShopStyle = DEMO, exposure: Exposure | None = None
) -> tuple[PurchaseLog, Showings]:
    """Let ``users`` people shop where something is recommended to them at every step."""
    exposure = exposure or Exposure()
    always = int((shop.released == 0).sum())
    lengths = history_lengths(users, min(always - 1, len(shop.category) // 2), rng, style)
    times, same_visit = visit_times(lengths, rng)
    likings = Likings(
        rng.normal(0, style.kind_liking, (users, int(shop.category.max()) + 1)),
        rng.normal(0, style.brand_liking, (users, int(shop.brand.max()) + 1)),
        rng.normal(0, style.natural_liking, users),
    )
    parts = []
    for start in range(0, users, _AT_A_TIME):
        some = np.arange(start, min(start + _AT_A_TIME, users))
        mine = Likings(likings.category[some], likings.brand[some], likings.natural[some])
        parts.append(_some_users(shop, mine, lengths[some], times[some], same_visit[some], rng, style, exposure))
    items, previous, taste, slates, looked_at, taken = (np.concatenate(one) for one in zip(*parts, strict=True))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    log = PurchaseLog(offsets, items, times[np.arange(times.shape[1]) < lengths[:, None]], previous, taste, likings)
    return log, Showings(slates, looked_at, taken)


def _some_users(
    shop: Shop,
    likings: Likings,
    lengths: Ints,
    times: Ints,
    same_visit: np.ndarray,
    rng: np.random.Generator,
    style: ShopStyle,
    exposure: Exposure,
) -> tuple[Ints, Ints, Floats, Ints, Ints, Ints]:
    users, longest, count = len(lengths), int(lengths.max()), len(shop.category)
    always = steady(shop, likings)
    policy = exposure.popularity * shop.popularity + exposure.kinds_and_brands * (
        likings.category[:, shop.category] + likings.brand[:, shop.brand]
    )
    taste = rng.normal(0, 1, (users, len(FACTORS)))
    had = np.zeros((users, count), bool)
    chosen, before = np.zeros((users, longest), np.int64), np.full((users, longest), -1, np.int64)
    path = np.zeros((users, longest, len(FACTORS)))
    slates = np.zeros((users, longest, exposure.slate), np.int64)
    looked_at, taken = np.zeros((users, longest), np.int64), np.full((users, longest), -1, np.int64)
    for step in range(longest):
        noise = rng.normal(0, 1, taste.shape)
        here = np.flatnonzero(lengths > step)
        rows = np.arange(len(here))
        path[:, step] = taste
        if step:
            before[here, step] = np.where(same_visit[here, step], chosen[here, step - 1], -1)
        worth = utility(shop, always[here], taste[here], times[here, step], before[here, step], style.strength)
        worth[had[here]] = -np.inf
        on_sale = np.isfinite(worth)
        mean = np.where(on_sale, worth, 0).sum(1) / on_sale.sum(1)
        shown = policy[here] + exposure.noise * rng.gumbel(size=worth.shape)
        slate = np.argsort(-np.where(on_sale, shown, -np.inf), axis=1)[:, : exposure.slate]
        worth += rng.gumbel(size=worth.shape)
        seen = np.full(len(here), exposure.slate)
        if exposure.attention < 1:
            seen = np.minimum(rng.geometric(1 - exposure.attention, len(here)), exposure.slate)
        offered = np.take_along_axis(worth, slate, 1)
        offered[np.arange(exposure.slate) >= seen[:, None]] = -np.inf
        best = offered.argmax(1)
        takes = offered[rows, best] > mean + exposure.outside + rng.gumbel(size=len(here))
        chosen[here, step] = np.where(takes, slate[rows, best], worth.argmax(1))
        had[here, chosen[here, step]] = True
        slates[here, step], looked_at[here, step] = slate, seen
        # What was shown, overlooked and then found by searching was not taken from the slate.
        taken[here, step] = np.where(takes, best, -1)
        taste = style.drift * taste + np.sqrt(1 - style.drift**2) * noise
    done = np.arange(longest) < lengths[:, None]
    return chosen[done], before[done], path[done], slates[done], looked_at[done], taken[done]


def write_logs(folder: Path, goods: list[Product], log: PurchaseLog, showings: Showings) -> None:
    """The shop's own log as ``log.parquet``, and ``feedback/`` as a service writes it."""
    names = np.array([product.name for product in goods])
    steps, slate = showings.items.shape
    users = np.array([f"u{number + 1:05d}" for number in range(len(log.offsets) - 1)])
    owners = np.repeat(users, np.diff(log.offsets))
    bought = pl.DataFrame({"user": owners, "item": names[log.items], "time": log.times})
    request = np.array([f"r{number:07d}" for number in range(steps)])
    shown = pl.DataFrame(
        {
            "time": np.repeat(log.times - _MOMENT, slate),
            "request": np.repeat(request, slate),
            "user": np.repeat(owners, slate),
            "item": names[showings.items.ravel()],
            "position": np.tile(np.arange(1, slate + 1, dtype=np.int32), steps),
            "variant": "policy",
            "event": "shown",
            "kind": pl.Series([None] * (steps * slate), dtype=pl.String),
        }
    )
    rows = np.flatnonzero(showings.taken >= 0)
    position = showings.taken[rows].astype(np.int32) + 1
    taken = pl.DataFrame(
        {
            "time": log.times[rows],
            "request": request[rows],
            "user": owners[rows],
            "item": names[log.items[rows]],
            "position": position,
            "variant": "policy",
            "event": "taken",
            "kind": "purchase",
        }
    )
    feedback = folder / "feedback"
    feedback.mkdir(parents=True, exist_ok=True)
    bought.write_parquet(folder / "log.parquet")
    pl.concat([shown, taken]).sort("time", maintain_order=True).write_parquet(feedback / "2026-01-01T000000-1.parquet")
