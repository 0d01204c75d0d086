"""Intervals, paired differences and what could have been found at all.

The unit is the user. Values are ``[seeds, users]``; a figure is the mean over both. Intervals come from a bootstrap
that draws users and, crosswise, seeds. Every figure of one table is resampled with the same draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from palate.errors import PalateError
from palate.evaluation.ranks import Floats

RESAMPLES = 2000
LEVEL = 0.95
# z(0.975) + z(0.8): a true difference of this many standard errors is found at 5% in four of five experiments.
_POWER_80 = 1.959964 + 0.841621
_BLOCK = 64


@dataclass(frozen=True)
class Estimate:
    """A mean over users and seeds with its interval.

    Attributes:
        mean: the figure itself.
        low, high: ends of the interval; NaN where there is one user only.
        samples: float64 ``[resamples]``, the figure in every resample.
    """

    mean: float
    low: float
    high: float
    samples: Floats = field(repr=False)

    @cached_property
    def error(self) -> float:
        """Standard error: the spread of the resamples."""
        return float(np.std(self.samples, ddof=1))

    @cached_property
    def p_value(self) -> float:
        """Two-sided p-value of "the mean is 0": twice the smaller share of resamples on either side of 0.

        It is below 0.05 exactly where the 95% interval leaves out 0 (but for rounding), and never 0: the smallest
        value that ``R`` resamples can give is ``2 / (R + 1)``.
        """
        if not np.isfinite(self.samples).all():
            return float("nan")
        side = min(np.count_nonzero(self.samples <= 0), np.count_nonzero(self.samples >= 0))
        return float(min(1.0, 2 * (side + 1) / (len(self.samples) + 1)))

    @property
    def detectable(self) -> float:
        """Smallest true difference that this set would show at 5% with a power of 80%."""
        return _POWER_80 * self.error


def bootstrap(
    values: Mapping[str, Floats], *, seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL
) -> dict[str, Estimate]:
    """Intervals for several figures from the same draws of users and seeds.

    Users and seeds are drawn with replacement, crosswise (the pigeonhole bootstrap of Owen, Annals of Applied
    Statistics 2007). Of ``n`` there are drawn ``n - 1`` (Rao and Wu, JASA 1988): with three seeds, drawing three would
    understate their spread by a third. One seed alone is kept: its interval then speaks of users only.

    Args:
        values: Name -> float64 ``[seeds, users]``; all over the same users. Rows of a figure are its seeds; figures
            with the same number of seeds are drawn alike.
        seed: Of the draws.

    >>> found = bootstrap({"zeros": np.zeros((2, 5)), "ones": np.ones((2, 5))}, resamples=20)
    >>> found["ones"].mean, found["ones"].low, found["zeros"].high
    (1.0, 1.0, 0.0)
    """
    if not values:
        return {}
    users = {matrix.shape[1] for matrix in values.values()}
    if len(users) != 1:
        raise PalateError("the figures are not about the same users", "Evaluate all runs on the same cases.")
    num_users = users.pop()
    if num_users == 0:
        raise PalateError("there is no user to draw from", "Leave out empty slices.")
    stacked = np.concatenate(list(values.values())).astype(np.float64)
    by_user = _resample_users(stacked, np.random.default_rng([seed, 0]), resamples)
    found: dict[str, Estimate] = {}
    start = 0
    for name, matrix in values.items():
        rows = by_user[start : start + len(matrix)]
        start += len(matrix)
        samples = np.einsum("sr,sr->r", _seed_weights(len(matrix), resamples, seed), rows)
        if num_users < 2:
            samples = np.full(resamples, np.nan)
        tail = (1 - level) / 2
        low, high = np.quantile(samples, [tail, 1 - tail])
        found[name] = Estimate(float(matrix.mean()), float(low), float(high), samples)
    return found


def _resample_users(stacked: Floats, rng: np.random.Generator, resamples: int) -> Floats:
    """Means of every row over redrawn users: ``[rows, users]`` -> ``[rows, resamples]``."""
    num_users = stacked.shape[1]
    draws = max(num_users - 1, 1)
    out = np.empty((len(stacked), resamples))
    for start in range(0, resamples, _BLOCK):
        size = min(_BLOCK, resamples - start)
        picks = rng.integers(0, num_users, (size, draws), dtype=np.int32)
        # Counting how often each user is drawn turns the resampling of all figures into one matrix product.
        counts = np.stack([np.bincount(row, minlength=num_users) for row in picks])
        out[:, start : start + size] = stacked @ counts.T.astype(np.float64) / draws
    return out


def _seed_weights(num_seeds: int, resamples: int, seed: int) -> Floats:
    """Share of each seed in each resample: ``[seeds, resamples]``, the same for the same number of seeds."""
    if num_seeds == 1:
        return np.ones((1, resamples))
    rng = np.random.default_rng([seed, 1, num_seeds])
    picks = rng.integers(0, num_seeds, (resamples, num_seeds - 1))
    return np.stack([(picks == one).mean(axis=1) for one in range(num_seeds)])


def pair_seeds(
    ours: Floats, our_seeds: Sequence[int], base: Floats, base_seeds: Sequence[int]
) -> tuple[Floats, list[int]]:
    """Differences to the base, user by user and seed by seed: ``[seeds in common, users]`` and those seeds.

    Something with one seed only (popularity knows no chance) is compared with every seed of the other. Without a
    seed in common the means over seeds are compared: one row, an empty list of seeds.
    """
    if len(base_seeds) == 1:
        return ours - base, list(our_seeds)
    if len(our_seeds) == 1:
        return ours - base, list(base_seeds)
    common = [one for one in our_seeds if one in set(base_seeds)]
    if not common:
        return ours.mean(axis=0, keepdims=True) - base.mean(axis=0, keepdims=True), []
    mine = [list(our_seeds).index(one) for one in common]
    theirs = [list(base_seeds).index(one) for one in common]
    return ours[mine] - base[theirs], common


def holm(p_values: npt.ArrayLike) -> Floats:
    """P-values adjusted for asking several questions at once (Holm, Scandinavian Journal of Statistics 1979).

    NaN (a test that could not be made) stays NaN and does not count.

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p_values, np.float64)
    adjusted = np.full(values.shape, np.nan)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1.0)
    return adjusted
