"""Order: histories that stand in the order of their item ids, as they do in a log that was sorted by item."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from palate.data.dataset import Dataset
from palate.data.doctor.finding import Finding, Level, percent
from palate.data.doctor.times import plausible

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
    rows = data.rows_user % every == 0
    users, items = data.rows_user[rows].astype(np.int64) // every, data.items[rows]
    ids = data.catalogue.frame["item_id"]
    times = data.timestamps
    if times is None or not plausible(times).all():
        found = most_monotone(users, items, ids)
        return [_of_the_file(data, found, every, times is not None)] if found else []
    same = np.diff(users) == 0
    tied = same & (np.diff(times[rows]) == 0)
    finer = data.manifest.get("order", {}).get("steps_within_a_millisecond", 0)  # proves the order within moments
    if tied.any() and not finer:
        moments = np.concatenate([[0], np.cumsum(~tied)]).astype(np.int64)
        found = most_monotone(moments, items, ids)
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
    lengths = np.bincount(runs)
    factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, lengths.max() + 1)))])  # logarithms
    pairs, counts = np.unique(runs * (len(ids) + 1) + items, return_counts=True)
    owners = pairs // (len(ids) + 1)
    different = np.bincount(owners, minlength=len(lengths)) > 1
    if not different.any():
        return None
    swaps = np.bincount(owners, weights=factorial[counts], minlength=len(lengths))
    expected = np.exp(swaps - factorial[lengths])[different]
    within = np.diff(runs) == 0
    users, found = np.flatnonzero(different), []
    for kind, keys in _orders(ids):
        steps = np.diff(keys[items - 1])
        for order, wrong in (("ascending", steps < 0), ("descending", steps > 0)):
            hits = np.ones(len(lengths), bool)
            hits[runs[1:][within & wrong]] = False
            found.append(Monotone(order, kind, users, hits[different], expected))
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
