"""Weights of a blend, chosen on cases of the validation split: by likelihood, or by NDCG@10."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import nnls
from torch import Tensor

from palate.data.dataset import Cases
from palate.errors import PalateError
from palate.progress import track
from palate.recommender import Recommender, mask_items

Floats = npt.NDArray[np.float64]

# Scores of one block, in numbers (64 MiB of float32), and of all blocks that may be held (512 MiB): beyond that the
# parts score again in each pass.
_BLOCK, _KEPT = 2**24, 2**27
# A weight below this share of all weights is 0: its part would cost time and move next to nothing.
SMALLEST_SHARE = 1e-3
# Newton's method: passes at most, and the expected gain in nats at which it stops.
_PASSES, _ENOUGH = 30, 1e-7
# Keeps the Hessian regular where two parts score alike; so small that no weight shows it.
_RIDGE = 1e-6
# The search for NDCG: what a weight is multiplied by, coarse and then fine, and how often all of them are gone through.
_COARSE, _FINE = (0.0, 0.35, 0.5, 0.7, 1.4, 2.0, 2.8), (0.8, 0.9, 1.1, 1.25)
# Shares of all weights that a weight of 0 may rise to.
_RISES = (0.05, 0.15, 0.4)
_ROUNDS = 3
_DEPTH = 10


@dataclass(frozen=True)
class ScoreBlock:
    """Scores of some cases by every part.

    Attributes:
        scores: float32 ``[M, B, num_items + 1]``, each part's divided by its scale; 0 where ``left_out``.
        left_out: bool ``[B, num_items + 1]``: padding, and the history where that is excluded.
        rows: int64 ``[P]``, the case of each target.
        targets: int64 ``[P]`` item indices.
        shares: float64 ``[P]``: 1 divided by the number of the case's targets.
    """

    scores: Tensor
    left_out: Tensor
    rows: Tensor
    targets: Tensor
    shares: Tensor


class ScoredCases:
    """The cases that weights are chosen on, with the scores of every part, block by block.

    Left out are cases without a history, which neural rankers answer by popularity, on another scale than all others,
    and targets that are in an excluded history: nothing could recommend them.

    Args:
        parts: ``M`` rankers.
        exclude_seen: the history's items cannot be recommended.
        keep: numbers that may be held in memory; above this the parts score every pass anew.

    Attributes:
        scales: float64 ``[M]``: the spread of a part's scores within a row (the root of the mean variance); 1 where a
            part scores all items alike.

    Raises:
        PalateError: no case is left, or a part gives scores that are not finite.
    """

    def __init__(self, parts: Sequence[Recommender], cases: Cases, exclude_seen: bool, keep: int = _KEPT) -> None:
        self.parts, self.exclude_seen, self.width = tuple(parts), exclude_seen, parts[0].num_items + 1
        self.cases, self._pairs = _usable(cases, exclude_seen)
        if not len(self.cases):
            raise PalateError(
                "no validation user has a history and a target that can be recommended",
                "Weights cannot be chosen on this split; prepare the data with another.",
            )
        self._rows = max(1, _BLOCK // (len(parts) * self.width))
        self.scales: Floats = np.ones(len(parts))
        self._held: list[ScoreBlock] | None = None
        keeps = len(parts) * len(self.cases) * self.width <= keep
        variance, blocks = np.zeros(len(parts)), []
        starts = range(0, len(self.cases), self._rows)
        for start in track(starts, "Scoring", total=len(self.cases), weight=self._rows):
            block = self._block(start)
            variance += block.scores[:, :, 1:].double().var(dim=2, correction=0).sum(1).numpy()
            blocks += [block] if keeps else []
        spread = np.sqrt(variance / len(self.cases))
        self.scales = np.where(spread > 1e-12, spread, 1.0)
        if keeps:
            for block in blocks:
                block.scores.div_(torch.from_numpy(self.scales).float()[:, None, None])
            self._held = blocks

    def __len__(self) -> int:
        """Number of cases."""
        return len(self.cases)

    def __iter__(self) -> Iterator[ScoreBlock]:
        if self._held is not None:
            yield from self._held
            return
        for start in range(0, len(self.cases), self._rows):
            yield self._block(start)

    def _block(self, start: int) -> ScoreBlock:
        stop = min(start + self._rows, len(self.cases))
        histories = self.cases.histories[start:stop]
        scores = torch.empty(len(self.parts), stop - start, self.width)
        for row, part in enumerate(self.parts):
            scores[row] = part.score(histories).detach().float().cpu() / float(self.scales[row])
        scores[:, :, 0] = 0.0
        if not bool(torch.isfinite(scores).all()):
            bad = next(p for p, one in zip(self.parts, scores, strict=True) if not bool(torch.isfinite(one).all()))
            raise PalateError(f"'{bad.name}' gives scores that are not finite: they have no sum", "Leave that run out.")
        left_out = torch.zeros(scores.shape[1:], dtype=torch.bool)
        left_out[:, 0] = True
        if self.exclude_seen:
            mask_items(left_out, histories, True)
        scores.masked_fill_(left_out, 0.0)
        rows, targets, shares = self._pairs
        pick = (rows >= start) & (rows < stop)
        return ScoreBlock(scores, left_out, rows[pick] - start, targets[pick], shares[pick])


def _usable(cases: Cases, exclude_seen: bool) -> tuple[Cases, tuple[Tensor, Tensor, Tensor]]:
    """The cases that weights can be chosen on; row, item and share of each of their targets."""
    keep: list[int] = []
    rows: list[int] = []
    targets: list[int] = []
    shares: list[float] = []
    for case in range(len(cases)):
        history = cases.histories[case]
        free = np.unique(cases.targets[case])
        free = np.setdiff1d(free, history) if exclude_seen else free
        if not len(history) or not len(free):
            continue
        rows += [len(keep)] * len(free)
        targets += free.tolist()
        shares += [1 / len(free)] * len(free)
        keep.append(case)
    pairs = (torch.tensor(rows, dtype=torch.int64), torch.tensor(targets, dtype=torch.int64))
    return cases.take(np.array(keep, np.int64)), (*pairs, torch.tensor(shares, dtype=torch.float64))


# -- likelihood ------------------------------------------------------------------------------------------------------


def fit_likelihood(scored: ScoredCases) -> tuple[Floats, float]:
    """Weights ``w >= 0`` that make the targets most likely, and their mean log-likelihood in nats.

    Maximises the mean over cases of ``log softmax(sum_m w_m s_m)[target]`` over the items that could be recommended,
    a concave function of ``w``, by projected Newton steps: each minimises the quadratic model over ``w >= 0`` exactly
    (non-negative least squares), and a pass over the cases gives value, gradient and Hessian.

    Returns:
        float64 ``[M]`` weights of the scaled scores, and the log-likelihood.
    """
    weights = np.ones(len(scored.parts))
    value, gradient, hessian = _derivatives(scored, weights)
    for _ in range(_PASSES):
        target = _quadratic_step(weights, gradient, hessian)
        expected = float(gradient @ (weights - target))
        if expected < _ENOUGH:
            break
        step = 1.0
        while True:
            new = weights + step * (target - weights)
            found = _derivatives(scored, new)
            if found[0] <= value - 1e-4 * step * expected or step < 1e-3:
                break
            step /= 2
        weights, (value, gradient, hessian) = new, found
    return pruned(weights), -value


def _derivatives(scored: ScoredCases, weights: Floats) -> tuple[float, Floats, Floats]:
    """Mean negative log-likelihood, its gradient ``[M]`` and its Hessian ``[M, M]``."""
    many = len(weights)
    value, gradient, hessian = 0.0, np.zeros(many), np.zeros((many, many))
    by = torch.from_numpy(weights).float()
    for block in scored:
        logits = torch.tensordot(by, block.scores, 1).masked_fill_(block.left_out, -torch.inf)
        norm = torch.logsumexp(logits, 1)
        chosen = block.scores[:, block.rows, block.targets].double()  # [M, P]
        value += float(((norm.double()[block.rows] - logits[block.rows, block.targets].double()) * block.shares).sum())
        weighed = block.scores * torch.exp(logits - norm[:, None])  # [M, B, I]
        means = weighed.sum(2).double()  # [M, B]
        gradient += (means.sum(1) - (chosen * block.shares).sum(1)).numpy()
        second = (weighed.flatten(1) @ block.scores.flatten(1).T).double()
        hessian += (second - means @ means.T).numpy()
    value = value / len(scored) + _RIDGE / 2 * float(weights @ weights)
    return value, gradient / len(scored) + _RIDGE * weights, hessian / len(scored) + _RIDGE * np.eye(many)


def _quadratic_step(weights: Floats, gradient: Floats, hessian: Floats) -> Floats:
    """The ``v >= 0`` that minimises ``gradient (v - weights) + (v - weights)' hessian (v - weights) / 2``."""
    lower = cholesky((hessian + hessian.T) / 2 + _RIDGE * np.eye(len(weights)), lower=True)
    found: Floats = nnls(lower.T, solve_triangular(lower, hessian @ weights - gradient, lower=True))[0]
    return found


def pruned(weights: Floats) -> Floats:
    """Weights with those of next to no share at exactly 0; where all are, they are equal.

    >>> pruned(np.array([2.0, 1e-5, 1.0])).tolist()
    [2.0, 0.0, 1.0]
    """
    if not weights.sum() > 0:
        return np.ones_like(weights)
    return np.where(weights / weights.sum() < SMALLEST_SHARE, 0.0, weights)


# -- NDCG ------------------------------------------------------------------------------------------------------------


def search_ndcg(scored: ScoredCases, start: Floats) -> tuple[Floats, float]:
    """Weights of high NDCG@10, found one weight at a time, and that NDCG: never below that of a part alone.

    The search begins with the best of ``start``, equal weights and each part alone. A weight is multiplied by each of
    a few factors, the best stays, and the next weight's turn comes. Each target of a case is ranked without the
    case's other targets, ties against it.

    Returns:
        float64 ``[M]`` weights of the scaled scores, of sum 1, and the NDCG.
    """
    starts = np.vstack([start, np.ones_like(start), np.eye(len(start))])
    values = ndcg_of(scored, starts)
    weights, best = starts[int(values.argmax())], float(values.max())
    for factors in (_COARSE, _FINE):
        for _ in range(_ROUNDS):
            before = best
            for place in range(len(weights)):
                tried = np.array(_line(weights, place, factors))
                if not len(tried):
                    continue
                values = ndcg_of(scored, tried)
                at = int(values.argmax())
                if values[at] > best:
                    weights, best = tried[at], float(values[at])
            if best == before:
                break
    weights = pruned(weights)
    return weights / weights.sum(), best


def _line(weights: Floats, place: int, factors: Sequence[float]) -> list[Floats]:
    """Weights with other values at one place, never all 0."""
    one = weights[place]
    values = [one * factor for factor in factors] if one else [weights.sum() * share for share in _RISES]
    lines = []
    for value in values:
        tried = weights.copy()
        tried[place] = value
        if tried.sum() > 0:
            lines.append(tried)
    return lines


def ndcg_of(scored: ScoredCases, weights: Floats) -> Floats:
    """Mean NDCG@10 of each row of ``weights`` (``[W, M]``): float64 ``[W]``."""
    total = np.zeros(len(weights))
    for block in scored:
        # The case's targets are no competitors of each other: they are left out of the count as the history is.
        closed = block.left_out.clone()
        closed[block.rows, block.targets] = True
        single = len(block.rows) == len(closed)  # one target per case, in order
        for row, by in enumerate(weights):
            sums = torch.tensordot(torch.from_numpy(by).float(), block.scores, 1)  # [B, I]
            mine = sums[block.rows, block.targets]
            others = sums.masked_fill_(closed, -torch.inf)
            ranks = 1 + ((others if single else others[block.rows]) >= mine[:, None]).sum(1).double()
            gains = torch.where(ranks <= _DEPTH, 1 / torch.log2(ranks + 1), 0.0)
            total[row] += float((gains * block.shares).sum())
    return total / len(scored)
