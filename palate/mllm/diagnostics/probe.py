"""Figures of the modality probe: how much the scores of candidates depend on their pictures.

HaNoRec (arXiv 2511.18740) describes a cross-modal bias: a policy that relies on one modality and ignores the other.
Here the same candidates are scored with their own pictures, with each other's, and with none, which shows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from palate.errors import PalateError
from palate.evaluation.ranks import Floats
from palate.evaluation.statistics import LEVEL, Estimate, bootstrap, pair_seeds

# The pictures with which a user's candidates are scored.
CONDITIONS = ("right", "other", "missing")
GAINS = ("auc_right_minus_other", "auc_right_minus_missing")
# Figures of a run, and those whose differences between runs are reported.
FIGURES = (
    *("shift_other", "shift_missing", "shift_other_sd", "shift_missing_sd"),
    *("auc_right", "auc_other", "auc_missing", *GAINS, "rank_correlation"),
)
COMPARED = tuple(name for name in FIGURES if not name.endswith("_sd"))
_VARIANCE = "variance"


@dataclass(frozen=True)
class ProbeScores:
    """One user's candidates under three pictures.

    Attributes:
        right, other, missing: float64 ``[candidates]``, scores with the own picture, another item's, and none.
        targets: bool ``[candidates]``, those that the user chose in truth.
        pictured: bool ``[candidates]``, those that have a picture; of the others all three scores are the same.
    """

    right: Floats
    other: Floats
    missing: Floats
    targets: npt.NDArray[np.bool_]
    pictured: npt.NDArray[np.bool_]


def auc(scores: Floats, targets: npt.NDArray[np.bool_]) -> float:
    """Chance that a target scores higher than another candidate; ties count as lost, 0.5 with none to beat.

    >>> auc(np.array([3.0, 1.0, 3.0, 2.0]), np.array([True, False, False, False]))
    0.6666666666666666
    """
    ours, others = scores[targets], scores[~targets]
    return float((ours[:, None] > others).mean()) if ours.size and others.size else 0.5


def rank_correlation(one: Floats, other: Floats) -> float:
    """Spearman's: 1 for the same order, also where all are equal; 0 where only one of the two has an order.

    >>> values, flat = np.array([1.0, 2.0, 3.0]), np.ones(3)
    >>> rank_correlation(values, -values), rank_correlation(values, flat), rank_correlation(flat, flat)
    (-1.0, 0.0, 1.0)
    """
    ours, theirs = rankdata(one), rankdata(other)
    if np.array_equal(ours, theirs):
        return 1.0
    ours, theirs = ours - ours.mean(), theirs - theirs.mean()
    spread = np.sqrt((ours**2).sum() * (theirs**2).sum())
    return float((ours * theirs).sum() / spread) if spread else 0.0


def by_user(users: Sequence[ProbeScores]) -> dict[str, Floats]:
    """Figures of each user: float64 ``[users]`` by name.

    ``shift_*`` is the mean ``|s_right - s_*|`` over the candidates that have a picture; ``variance`` that of
    ``s_right`` over all candidates (divided by their number).

    Raises:
        PalateError: a user none of whose candidates has a picture.
    """
    rows = []
    for one in users:
        if not one.pictured.any():
            raise PalateError("none of a user's candidates has a picture", "Leave such users out.")
        row = {f"auc_{name}": auc(getattr(one, name), one.targets) for name in CONDITIONS}
        for name in CONDITIONS[1:]:
            row[f"shift_{name}"] = float(np.abs(one.right - getattr(one, name))[one.pictured].mean())
            row[f"auc_right_minus_{name}"] = row["auc_right"] - row[f"auc_{name}"]
        row["rank_correlation"] = rank_correlation(one.right, one.other)
        row[_VARIANCE] = float(one.right.var())
        rows.append(row)
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


@dataclass(frozen=True)
class ProbeRow:
    """A run, or several that differ in their seed.

    Attributes:
        label: what tables call it.
        seeds: of its runs.
        figures: by name, see :data:`FIGURES`.
        differences: to the first row, user by user, of :data:`COMPARED`; empty for the first row.
        paired: whether the seeds could be paired.
    """

    label: str
    seeds: tuple[int, ...]
    figures: dict[str, Estimate]
    differences: dict[str, Estimate]
    paired: bool = True


def summarise(
    values: Mapping[str, Sequence[Mapping[str, Floats]]], seeds: Mapping[str, Sequence[int]], seed: int = 0
) -> list[ProbeRow]:
    """Means and intervals of every row, and its differences to the first, all from the same draws of users.

    Args:
        values: row -> of each of its runs, what :func:`by_user` gave; everywhere the same users.
        seeds: row -> the seeds of its runs.
        seed: of the draws.

    Raises:
        PalateError: the rows are not about the same users.
    """
    matrices: dict[tuple[str, str, str], Floats] = {}
    first = next(iter(values))
    paired = {}
    for label, runs in values.items():
        for name in runs[0]:
            matrices["is", label, name] = np.stack([run[name] for run in runs])
        if label != first:
            for name in COMPARED:
                ours, base = matrices["is", label, name], matrices["is", first, name]
                if ours.shape[1] != base.shape[1]:
                    raise PalateError("the runs were not asked about the same users", "Probe them together.")
                matrices["minus", label, name], common = pair_seeds(ours, seeds[label], base, seeds[first])
                paired[label] = bool(common)
    keys = {"/".join(key): key for key in matrices}
    drawn = bootstrap({text: matrices[key] for text, key in keys.items()}, seed=seed)
    found = {keys[text]: one for text, one in drawn.items()}
    rows = []
    for label in values:
        of_row = {name: one for (kind, row, name), one in found.items() if kind == "is" and row == label}
        for name in CONDITIONS[1:]:
            of_row[f"shift_{name}_sd"] = _in_spreads(of_row[f"shift_{name}"], of_row[_VARIANCE])
        differences = {name: one for (kind, row, name), one in found.items() if kind == "minus" and row == label}
        figures = {name: of_row[name] for name in FIGURES}
        rows.append(ProbeRow(label, tuple(seeds[label]), figures, differences, paired.get(label, True)))
    return rows


def _in_spreads(shift: Estimate, variance: Estimate) -> Estimate:
    """A shift in units of the scores' spread among a user's candidates (root of the mean variance); NaN without any."""

    def ratio(top: Floats, below: Floats) -> Floats:
        return np.divide(top, np.sqrt(below), out=np.full_like(top, np.nan), where=below > 0)

    samples = ratio(shift.samples, variance.samples)
    low, high = np.quantile(samples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(ratio(np.array(shift.mean), np.array(variance.mean))), float(low), float(high), samples)
