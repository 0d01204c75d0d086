"""The first sentence of the report: how many customers of a hundred find their next item, for readers without metrics.

It is computed from the hit rate: the share of customers of whom an item that they took next is among the first k.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from palate.evaluation.saved import SavedFigure, SavedRow, SavedTable

_WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]


@dataclass(frozen=True)
class Found:
    """How many of ``of`` customers a model serves: whole numbers, the interval rounded outwards."""

    label: str
    mean: int
    low: int | None
    high: int | None


@dataclass(frozen=True)
class InWords:
    """What the sentence says.

    Attributes:
        best: the model with the highest primary metric.
        other: the model it is set beside: popularity, else the base, else the next best; None: there is none.
        of: 100; more where the shares are tiny.
        first: the cut-off in words.
        next_item: whether each customer has exactly one item to be found.
        compared: how many models the best was chosen from.
        clear: whether the difference is beyond chance; None: not known.
        sampled: whether the items to be found were ranked among some others, not the whole catalogue.
    """

    best: Found
    other: Found | None
    of: int
    first: str
    next_item: bool
    customers: int
    compared: int
    clear: bool | None
    sampled: bool
    split: str


def in_words(table: SavedTable) -> InWords | None:
    """The sentence on one table; None where no hit rate is known at the cut-off of the primary metric."""
    cut = table.primary.partition("@")[2]
    metric = f"hitrate@{cut}"
    known = [model for model in table.contenders if _mean(model, table.primary) and _mean(model, metric) is not None]
    if not cut or not known:
        return None
    best = max(known, key=lambda model: _mean(model, table.primary) or 0.0)
    other = _set_beside(table, best, metric)
    shares = [share for one in (best, other) if one is not None and (share := _mean(one, metric))]
    of = next((number for number in (100, 1_000, 10_000) if min(shares, default=1.0) * number >= 0.995), 100_000)
    return InWords(
        best=_found(best, metric, of),
        other=None if other is None else _found(other, metric, of),
        of=of,
        first=_WORDS[int(cut) - 1] if cut.isdecimal() and 1 <= int(cut) <= len(_WORDS) else cut,
        next_item=best.metrics.get(f"recall@{cut}") == best.metrics[metric],
        customers=table.cases if table.users is None else table.users.drawn,
        compared=len(table.contenders),
        clear=None if other is None else _clear(table, best, other, metric),
        sampled=table.protocol == "sampled",
        split=table.split,
    )


def facts_of(sentence: InWords | None) -> dict[str, Any] | None:
    """The same for ``report.json``."""
    return None if sentence is None else asdict(sentence)


def _mean(model: SavedRow, metric: str) -> float | None:
    return model.metrics[metric].mean if metric in model.metrics else None


def _set_beside(table: SavedTable, best: SavedRow, metric: str) -> SavedRow | None:
    """Popularity is what everybody can picture; without it the base, or the best of the others."""
    others = [model for model in table.models if model is not best and _mean(model, metric) is not None]
    kinds: Mapping[str, str] = {label: runs[0].model for label, runs in table.runs.items() if runs and runs[0]}
    popular = [model for model in others if kinds.get(model.label) == "popularity"]
    base = [model for model in others if model.label == table.base]
    ranked = sorted(others, key=lambda model: _mean(model, table.primary) or 0.0, reverse=True)
    return next(iter([*popular, *base, *ranked]), None)


def _clear(table: SavedTable, best: SavedRow, other: SavedRow, metric: str) -> bool | None:
    """By the paired difference where one of the two is the base; else only where the intervals do not even touch."""
    paired = best if other.label == table.base else other if best.label == table.base else None
    difference = None if paired is None else paired.differences.get(metric)
    if difference is not None and difference.low is not None and difference.high is not None:
        return difference.low > 0 or difference.high < 0
    one, two = best.metrics[metric], other.metrics[metric]
    if one.low is None or one.high is None or two.low is None or two.high is None:
        return None
    return one.low > two.high or two.low > one.high


def _found(model: SavedRow, metric: str, of: int) -> Found:
    each: SavedFigure = model.metrics[metric]
    low = None if each.low is None else math.floor(each.low * of)
    high = None if each.high is None else math.ceil(each.high * of)
    return Found(model.label, round((each.mean or 0.0) * of), low, high)
