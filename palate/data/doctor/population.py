"""Users and items: too few, too thin, too unequal, and the same thing twice."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from palate.console import agreeing, counted
from palate.data.blocks import among, repeated, user_blocks, users_of
from palate.data.dataset import Dataset
from palate.data.doctor.finding import SHOWN, Finding, Level, few, percent, those

THIN = 3


def thin_users(data: Dataset) -> list[Finding]:
    """Users with too little to learn from, and test cases without any history."""
    lengths = np.diff(data.offsets)
    thin = lengths < THIN
    bare = int((data.history_lengths("test") == 0).sum())
    if not thin.any() and not bare:
        text = f"Every user has at least {counted(int(lengths.min()) if len(lengths) else 0, 'interaction')}."
        return [Finding("thin-users", Level.OK, text)]
    share = float(thin.mean())
    count = int(thin.sum())
    text = f"{those(count, 'user', share, 'has', 'have')} fewer than {THIN} interactions"
    text += f"; {counted(bare, 'test case')} {agreeing(bare, 'has', 'have')} no history at all." if bare else "."
    shown = few(data.user_ids.gather(np.flatnonzero(thin)[:5]))
    return [
        Finding("thin-users", Level.WARNING if share > 0.2 or bare else Level.NOTE, text, int(thin.sum()), share, shown)
    ]


def thin_items(data: Dataset) -> list[Finding]:
    """Items that training never saw, or hardly."""
    counts = data.train_counts[1:]
    cold, thin = int((counts == 0).sum()), int((counts < THIN).sum())
    if not thin:
        least = counted(int(counts.min()), "training interaction")
        return [Finding("thin-items", Level.OK, f"Every item has at least {least}.")]
    share = thin / data.num_items
    text = (
        f"{those(thin, 'item', share, 'has', 'have')} fewer than {THIN} training interactions; "
        f"{cold:,} {agreeing(cold, 'has', 'have')} none (cold). "
        "Ids know nothing of these."
    )
    ids = data.catalogue.ids
    shown = few(ids[item + 1] for item in np.argsort(counts, kind="stable")[:5])
    return [Finding("thin-items", Level.NOTE, text, thin, share, shown)]


def power(data: Dataset) -> list[Finding]:
    """How exactly the number of test users lets a metric be known."""
    cases = len(data.history_lengths("test"))
    if not cases:
        return []
    half = 1.96 * (0.1 * 0.9 / cases) ** 0.5
    tested = f"{counted(cases, 'user')} {agreeing(cases, 'is', 'are')} tested"
    text = f"{tested}: a hit rate of 10% is known to within {100 * half:.1f} points either way"
    if half > 0.01:
        return [Finding("test-size", Level.NOTE, text + "; small differences between models cannot be shown.", cases)]
    return [Finding("test-size", Level.OK, text + ".", cases)]


def gini(counts: npt.ArrayLike) -> float:
    """Gini coefficient: 0 when all items are equally popular, towards 1 when one has everything.

    >>> gini([5, 5, 5]), gini([0, 0, 0, 8])
    (0.0, 0.75)
    """
    values = np.sort(np.asarray(counts, np.float64))
    if not len(values) or not values.sum():
        return 0.0
    place = np.arange(1, len(values) + 1)
    return round(float((2 * place - len(values) - 1) @ values / (len(values) * values.sum())), 12)


def popularity(data: Dataset) -> list[Finding]:
    """Skew of popularity over the training interactions."""
    counts = data.train_counts[1:]
    unequal = gini(counts)
    top = max(1, round(0.01 * len(counts)))
    best = np.argsort(-counts, kind="stable")
    share = float(counts[best[:top]].sum() / max(counts.sum(), 1))
    text = (
        f"Gini coefficient {unequal:.2f}; the most popular 1% of items ({top:,}) have {percent(share)} of the training "
        "interactions."
    )
    level = Level.NOTE if unequal > 0.6 else Level.OK
    text += " Always compare with the popularity ranker." if level is Level.NOTE else ""
    titles = data.catalogue.titles
    return [Finding("popularity-skew", level, text, top, share, few(titles[item + 1] for item in best[:5]))]


def duplicate_interactions(data: Dataset) -> list[Finding]:
    """The same user with the same item more than once, and how often at the very same time."""
    again, exact, shown = 0, 0, list[str]()
    for users, rows in user_blocks(data.offsets):
        owners, items = users_of(data.offsets, users), data.items[rows]
        keys = owners * (data.num_items + 1) + items
        twice = among(keys, repeated(keys))
        if not twice.any():
            continue
        pairs = pl.DataFrame({"user": owners[twice], "item": items[twice]})
        different = pairs.unique(maintain_order=True)
        again += len(pairs) - len(different)
        if data.timestamps is not None:
            exact += len(pairs) - pairs.with_columns(time=data.timestamps[rows][twice]).n_unique()
        names = (f"user {data.user_ids[u]}, item {data.catalogue.ids[i]}" for u, i in different.head(SHOWN).rows())
        shown = few([*shown, *names])
    if not again:
        return [Finding("duplicate-interactions", Level.OK, "No user has the same item twice.")]
    share = again / len(data)
    text = f"{those(again, 'interaction', share, 'repeats', 'repeat')} an item of the same user"
    text += f", {exact:,} of them at the same moment (a row that is there twice)" if exact else ""
    level = Level.WARNING if exact or share >= 0.05 else Level.NOTE
    return [Finding("duplicate-interactions", level, text + ". See --duplicates.", again, share, shown)]


def duplicate_titles(data: Dataset) -> list[Finding]:
    """Different items under one title: the same product twice, or titles too short to tell things apart."""
    titles = data.catalogue.frame["title"].str.strip_chars().str.to_lowercase()
    titles = titles.filter(titles.is_not_null() & (titles != ""))
    if not len(titles):
        return []
    count = int(titles.is_duplicated().sum())
    if not count:
        return [Finding("duplicate-titles", Level.OK, "No two items share a title.")]
    share = count / len(titles)
    common = (
        titles.filter(titles.is_duplicated())
        .value_counts(sort=True)
        .sort(["count", "title"], descending=[True, False])
        .head(5)
    )
    shown = few(f"{title} ({times} items)" for title, times in common.rows())
    text = f"{count:,} items ({percent(share)} of those with a title) share it with another item."
    return [Finding("duplicate-titles", Level.WARNING if share >= 0.05 else Level.NOTE, text, count, share, shown)]
