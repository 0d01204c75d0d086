"""Weights of neighbours: how much each source at each lag adds to a trained ranker's scores, learnt on validation.

A ranker is trained first, and its scores stay what they are; the few weights of its neighbours are then those under
which the validation targets are likeliest:

``p(i | history) = softmax_i(a s_i + sum_{m, l} w[m, l] S_m[h_l, i])``, ``w >= 0``

with the scale ``a`` free as well, for a ranker is surer of its training targets than of new ones. The training log
itself would teach wrong weights: its pairs are known to the ids by heart, and counted in the co-occurrences. With a
handful of unknowns, thousands of users do not overfit.

Only the cells that neighbours touch change with ``w``. The softmax's normaliser over all other items depends on ``a``
alone: it is made once at a few values of ``a`` and interpolated, so that a fit costs one scoring of the users and then
nothing that grows with the catalogue.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from scipy.interpolate import CubicSpline
from scipy.optimize import minimize

from palate.data.dataset import Cases
from palate.data.sequences import Sequences
from palate.features.neighbour_store import NeighbourList
from palate.rankers.neighbours import newest, source_matrix
from palate.recommender import Recommender, mask_items

Floats = npt.NDArray[np.float64]
# Where the normaliser is made; between them it is interpolated. A ranker that is surer than 1 / 0.15 is not trusted.
_SCALES = np.geomspace(0.15, 2.5, 12)
# Numbers of one block of scores (64 MiB of float32).
_SCORES = 2**24
# Entries of the cells that are held: 16 bytes each.
_ENTRIES = 60_000_000


@dataclass(frozen=True)
class Fitted:
    """What :func:`fit_weights` found.

    Attributes:
        weights: float64 ``[sources, lags]``, to be added to the ranker's scores as they are (``w / a``).
        scale: ``a``.
        before: mean negative log-likelihood of the targets without neighbours, at the best scale.
        after: with them.
        users: how many targets it was learnt from.
    """

    weights: Floats
    scale: float
    before: float
    after: float
    users: int


def fit_weights(
    recommender: Recommender,
    cases: Cases,
    lists: Sequence[NeighbourList],
    lags: int,
    *,
    exclude_seen: bool,
    users: int = 10_000,
    seed: int = 0,
) -> Fitted:
    """Fit the weights on cases of one target each.

    Args:
        recommender: trained, without neighbours.
        cases: of the validation split; never of test.
        lists: one for each source.
        lags: how many of the newest items of a history add.
        exclude_seen: leave the items of the history out of the softmax.
        users: at most this many cases, drawn by ``seed``; fewer where a catalogue's lists are long.
    """
    most = min(users, _ENTRIES // (len(lists) * lags * lists[0].items.shape[1]))
    if len(cases) > most:
        rows = np.random.default_rng([seed, 4]).choice(len(cases), most, replace=False)
        cases = cases.take(np.sort(rows))
    problem = Problem.of(recommender, cases, lists, lags, exclude_seen=exclude_seen)
    alone = problem.solve(neighbours=False)
    both = problem.solve()
    scale = float(both[0][0])
    return Fitted(both[0][1:].reshape(len(lists), lags) / scale, scale, alone[1], both[1], len(cases))


@dataclass(frozen=True)
class Problem:
    """The likelihood of the targets of ``R`` cases as a function of the scale and the weights.

    Attributes:
        features: CSR ``[cells, sources * lags]``: scores of each source at each lag of an item that neighbours touch.
        row: int64 ``[cells]``, ascending.
        score: float64 ``[cells]``, the ranker's.
        target_score: float64 ``[R]``.
        target_features: CSR ``[R, sources * lags]``.
        normaliser: spline of ``log sum_i exp(a s_i)``, ``[R]``, in ``a``.
    """

    features: sparse.csr_matrix
    row: npt.NDArray[np.int64]
    score: Floats
    target_score: Floats
    target_features: sparse.csr_matrix
    normaliser: CubicSpline

    @classmethod
    def of(
        cls, recommender: Recommender, cases: Cases, lists: Sequence[NeighbourList], lags: int, *, exclude_seen: bool
    ) -> Problem:
        """Score the cases, a block at a time."""
        matrices = [source_matrix(one) for one in lists]
        blocks = list(_blocks(recommender, cases, matrices, lags, exclude_seen))
        features, row, score, target_features, target_score, normaliser = zip(*blocks, strict=True)
        starts = np.cumsum([0, *(len(one) for one in target_score)])
        return cls(
            sparse.vstack(features, format="csr"),
            np.concatenate([one + start for one, start in zip(row, starts[:-1], strict=True)]),
            np.concatenate(score),
            np.concatenate(target_score),
            sparse.vstack(target_features, format="csr"),
            CubicSpline(_SCALES, np.concatenate(normaliser).T),
        )

    def __call__(self, unknowns: Floats) -> tuple[float, Floats]:
        """Mean negative log-likelihood at ``[a, w...]``, and its gradient."""
        scale, weights = float(unknowns[0]), unknowns[1:]
        rows = len(self.target_score)
        total, slope = self.normaliser(scale), self.normaliser(scale, 1)
        added = self.features @ weights
        share = np.exp(scale * self.score - total[self.row])
        more = share * np.expm1(added)
        ratio = 1 + np.bincount(self.row, more, rows)
        loss = total + np.log(ratio) - scale * self.target_score - self.target_features @ weights
        probability = share * np.exp(added) / ratio[self.row]
        by_weight = self.features.T @ probability - self.target_features.sum(0).A1
        by_scale = slope + np.bincount(self.row, more * (self.score - slope[self.row]), rows) / ratio
        by_scale -= self.target_score
        return float(loss.mean()), np.concatenate([[by_scale.sum()], by_weight]) / rows

    def solve(self, neighbours: bool = True) -> tuple[Floats, float]:
        """The likeliest ``[a, w...]`` and its loss; without neighbours all ``w`` stay 0."""
        # A source without a score at a lag (no history is so long) has no weight there.
        active = (np.diff(self.features.tocsc().indptr) > 0) & neighbours
        start = np.concatenate([[0.7], np.where(active, 0.5, 0.0)])
        bounds = [(_SCALES[0], _SCALES[-1]), *((0.0, 50.0 if one else 0.0) for one in active)]
        found = minimize(self, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 200})
        return found.x, float(found.fun)


def _blocks(
    recommender: Recommender, cases: Cases, matrices: Sequence[sparse.csr_matrix], lags: int, exclude_seen: bool
) -> Iterator[tuple[sparse.csr_matrix, npt.NDArray[np.int64], Floats, sparse.csr_matrix, Floats, Floats]]:
    """Of each block of cases: features, rows and scores of the cells, features and scores of targets, normalisers."""
    width = recommender.num_items + 1
    size = max(1, _SCORES // width)
    for start in range(0, len(cases), size):
        some = cases.take(np.arange(start, min(start + size, len(cases))))
        targets = some.targets.values.astype(np.int64)
        scores = recommender.score(some.histories).float().cpu()
        scores[:, 0] = -torch.inf
        if exclude_seen:
            mine = torch.from_numpy(targets)[:, None]
            at_targets = scores.gather(1, mine)  # a target that is in the history is no reason for an infinite loss
            mask_items(scores, some.histories)
            scores.scatter_(1, mine, at_targets)
        normaliser = np.stack([torch.logsumexp(scores * float(a), 1).double().numpy() for a in _SCALES], axis=1)
        features, row, item = _cells(some.histories, matrices, lags, width)
        score = scores[torch.from_numpy(row), torch.from_numpy(item)].double().numpy()
        finite = np.isfinite(score)
        features, row, item, score = features[finite], row[finite], item[finite], score[finite]
        keys, own = row * width + item, np.arange(len(targets)) * width + targets
        place = np.minimum(np.searchsorted(keys, own), max(0, len(keys) - 1))
        touched = keys[place] == own if len(keys) else np.zeros(len(own), np.bool_)
        pick = sparse.csr_matrix(
            (touched[touched].astype(np.float64), (np.flatnonzero(touched), place[touched])),
            shape=(len(targets), len(keys)),
        )
        mine_score = scores[torch.arange(len(targets)), torch.from_numpy(targets)].double().numpy()
        yield features, row, score, (pick @ features).tocsr(), mine_score, normaliser


def _cells(
    histories: Sequences, matrices: Sequence[sparse.csr_matrix], lags: int, width: int
) -> tuple[sparse.csr_matrix, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Features ``[cells, sources * lags]`` of every item that a neighbour touches, and the cells' rows and items."""
    items = newest(histories, lags)
    keys, columns, values = [], [], []
    for number, matrix in enumerate(matrices):
        for lag in range(lags):
            part = matrix[items[:, lag]].tocoo()
            keys.append(part.row.astype(np.int64) * width + part.col)
            columns.append(np.full(part.nnz, number * lags + lag))
            values.append(part.data.astype(np.float64))
    cells, place = np.unique(np.concatenate(keys), return_inverse=True)
    shape = (len(cells), len(matrices) * lags)
    features = sparse.csr_matrix((np.concatenate(values), (place, np.concatenate(columns))), shape=shape)
    return features, cells // width, cells % width
