"""Order: histories that stand in the order of their item ids, as they do in a log that was sorted by item."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from palate.data.blocks import count, user_blocks
from palate.data.dataset import Dataset
from palate.data.doctor.finding import Finding, Level, percent
from palate.data.doctor.times import plausible
from palate.data.sequences import offsets_of

Keys = npt.NDArray[np.int64]

# Ids that are handed out as time goes by are often ascending too: in Amazon's Beauty and Toys, in true order, 13% and
# 18% of the histories are. So what counts is the share beyond chance, and not only that chance is ruled out.
_PROOF, _SUSPICIOUS = 0.9, 0.5
_RULED_OUT = np.log(1e-6)
_FEW_TIES, _MOST_TIES = 0.05, 0.5
_USERS = 100_000  # enough for any share; of more users every second, third ... is looked at
_NUMBER = r"^(\D*)(\d+)$"


@dataclass(frozen=True)
class Monotone:
    """How many runs of interactions never step back (or never forward) in one order of the item ids.

    Attributes:
        order: ``"ascending"`` or ``"descending"``.
        kind: how ids are compared: ``"as numbers"`` or ``"as text"``.
        runs: int64 ``[runs]``, the runs that hold two different items.
        hits: bool ``[runs]``.
        expected: float64 ``[runs]``, the probability of each hit if the order of the run were random.
    """

    order: str
    kind: str
    runs: Keys
    hits: npt.NDArray[np.bool_]
    expected: npt.NDArray[np.float64]

    @property
    def share(self) -> float:
        return float(self.hits.mean())

    @property
    def chance(self) -> float:
        return float(self.expected.mean())

    @property
    def beyond_chance(self) -> float:
        """The share of runs that chance does not account for: 0 where the order is random, 1 where all are hits."""
        return (self.share - self.chance) / max(1 - self.chance, 1e-12)

    @property
    def log_p(self) -> float:
        """Logarithm of a bound on the probability of so many hits by chance: Hoeffding (1963), theorem 1, whose mean of
        unequal probabilities it is allowed to use."""
        share, chance = self.share, max(self.chance, 1e-300)
        if share <= chance:
            return 0.0
        rest = (1 - share) * np.log((1 - share) / (1 - chance)) if share < 1 else 0.0
        return -len(self.hits) * float(share * np.log(share / chance) + rest)

    def exceeds(self, share: float) -> bool:
        return self.beyond_chance >= share and bool(self.log_p <= _RULED_OUT)


def id_order(data: Dataset) -> list[Finding]:
    """Histories in the order of item ids instead of time; where times tie, the order within each moment."""
    every = max(1, -(-data.num_users // _USERS))
    looked_at = np.arange(0, data.num_users, every)
    lengths = np.diff(data.offsets)[looked_at]
    starts = data.offsets[looked_at] - np.cumsum(lengths) + lengths  # what a place among the rows looked at is off by
    rows = slice(None) if every == 1 else np.arange(lengths.sum()) + np.repeat(starts, lengths)
    users, items = np.repeat(np.arange(len(looked_at)), lengths), data.items[rows]
    ids, times = data.catalogue.frame["item_id"], data.timestamps
    if times is None or not plausible(times).all():
        found = most_monotone(users, items, ids)
        return [_of_the_file(data, found, every, times is not None)] if found else []
    same, moment = users[1:] == users[:-1], times[rows]
    tied = same & (moment[1:] == moment[:-1])
    finer = data.manifest.get("order", {}).get("steps_within_a_millisecond", 0)  # proves the order within moments
    if tied.any() and not finer:
        before, after = np.concatenate([[False], tied]), np.concatenate([tied, [False]])
        several = before | after  # the rest are moments of one interaction
        found = most_monotone(np.cumsum(~before[several]) - 1, items[several], ids)
        if found and found.exceeds(_SUSPICIOUS):
            return [_of_ties(found, float(tied.sum() / same.sum()))]
    found = most_monotone(users, items, ids)
    return [_of_times(found)] if found else []


def most_monotone(runs: Keys, items: npt.NDArray[np.int32], ids: pl.Series) -> Monotone | None:
    """The order of item ids, of those looked at, in which most runs beyond chance are monotone.

    Args:
        runs: int64 ``[interactions]``, the run each row belongs to (0, 1, 2 ..., rows of one run together).
        items: int32 ``[interactions]``, item indices from 1.
        ids: the items' ids, in index order without padding.

    Returns:
        None where no run has two different items. Runs of one item only are left out. An item that is there ``c`` times
        in a run of ``n`` may swap places with itself, so the probability is that of equal items, ``prod(c!) / n!``,
        which for different items is ``1 / n!``.
    """
    if not len(runs):
        return None
    lengths = count(runs, 0)
    factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, lengths.max() + 1)))])  # logarithms
    orders = list(_orders(ids))
    hits = {(kind, order): np.ones(len(lengths), bool) for kind, _ in orders for order in ("ascending", "descending")}
    different, expected = np.zeros(len(lengths), bool), np.zeros(len(lengths))
    for some, rows in user_blocks(offsets_of(lengths)):
        size, own, taken = some.stop - some.start, runs[rows] - some.start, items[rows]
        pairs, counts = np.unique(own * (len(ids) + 1) + taken, return_counts=True)
        owners = pairs // (len(ids) + 1)
        different[some] = np.bincount(owners, minlength=size) > 1
        swaps = np.bincount(owners, weights=factorial[counts], minlength=size)
        expected[some] = np.exp(swaps - factorial[lengths[some]])
        within = own[1:] == own[:-1]
        for kind, keys in orders:
            steps = np.diff(keys[taken - 1])
            hits[kind, "ascending"][some][own[1:][within & (steps < 0)]] = False
            hits[kind, "descending"][some][own[1:][within & (steps > 0)]] = False
    if not different.any():
        return None
    users, chance = np.flatnonzero(different), expected[different]
    found = [Monotone(order, kind, users, hit[different], chance) for (kind, order), hit in hits.items()]
    return max(found, key=lambda one: one.beyond_chance)


def _orders(ids: pl.Series) -> Iterator[tuple[str, Keys]]:
    """Ranks of the ids as numbers (where they are, behind a common prefix such as ``item_``) and as text."""
    parts = ids.to_frame("id").select(
        prefix=pl.col("id").str.extract(_NUMBER, 1), number=pl.col("id").str.extract(_NUMBER, 2)
    )
    numbers = parts["number"].cast(pl.Int64, strict=False)
    if not numbers.is_null().any() and parts["prefix"].n_unique() == 1:
        yield "as numbers", numbers.to_numpy()
    yield "as text", ids.rank("ordinal").cast(pl.Int64).to_numpy()


def _figures(found: Monotone, what: str) -> str:
    return (
        f"{percent(found.share)} of {len(found.hits):,} {what} are in {found.order} order of the item ids "
        f"({found.kind}); chance would make it {percent(found.chance)}"
    )


def _finding(level: Level, found: Monotone, text: str) -> Finding:
    return Finding("id-order", level, text, int(found.hits.sum()), found.share)


def _of_the_file(data: Dataset, found: Monotone, every: int, timed: bool) -> Finding:
    """No time proves the order: it is that of the file, or of times that cannot be true."""
    text = _figures(found, "histories")
    why = "its times lie before 1990 or after 2100 and prove nothing" if timed else "there are no times to prove it"
    if not found.exceeds(_SUSPICIOUS):
        return _finding(Level.OK, found, text + ".")
    level = Level.ERROR if found.exceeds(_PROOF) else Level.WARNING
    sorted_by = "The source is sorted by item" if level is Level.ERROR else "Part of the source looks sorted by item"
    text = (
        f"{text}. {sorted_by}, not by time ({why}): the last item, which tests, would only be the "
        f"{'largest' if found.order == 'ascending' else 'smallest'} id. Prepare it again from a log in true order."
    )
    ids = data.catalogue.ids
    examples = []
    for user in (found.runs[found.hits][:2] * every).tolist():
        row = data.items[data.offsets[user] : data.offsets[user + 1]][:5]
        examples.append(f"user {data.user_ids[user]}: {' '.join(ids[item] for item in row)}")
    return Finding("id-order", level, text, int(found.hits.sum()), found.share, examples)


def _of_ties(found: Monotone, ties: float) -> Finding:
    """Times prove the order of the moments, but within a moment the file's order is that of the ids."""
    text = (
        f"{_figures(found, 'groups of interactions at the same time')}, and {percent(ties)} of all steps tie: within a "
        "moment the source is sorted by item, not by time. Prepare it again with `--ties seed`, which draws the order."
    )
    if ties < _FEW_TIES:
        return _finding(Level.NOTE, found, text)
    return _finding(Level.ERROR if ties >= _MOST_TIES and found.exceeds(_PROOF) else Level.WARNING, found, text)


def _of_times(found: Monotone) -> Finding:
    """Times prove the order."""
    text = _figures(found, "histories")
    if not found.exceeds(_SUSPICIOUS):
        return _finding(Level.OK, found, text + ".")
    text += ". Its times prove the order, if they were not made from it: ids seem to be handed out as time goes by."
    return _finding(Level.NOTE, found, text)
