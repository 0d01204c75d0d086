"""Rank the targets of many cases without sorting the catalogue: count what scores at least as high.

A score matrix of one batch is read a handful of times while it is still in the processor's cache, so ranking costs a
small fraction of the matrix product that made the scores. Ties count against the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from palate.data.dataset import Cases
from palate.data.sequences import Sequences, offsets_of
from palate.errors import PalateError
from palate.evaluation.blocks import BatchRanking
from palate.evaluation.budget import MEMORY_MB, Plan, cases_at_once, plan
from palate.evaluation.candidates import Candidates
from palate.evaluation.counting import count
from palate.evaluation.ranks import Ints, Ranks
from palate.progress import track
from palate.recommender import Recommender


def rank_targets(
    recommender: Recommender,
    cases: Cases,
    *,
    exclude_seen: bool,
    candidates: Candidates | None = None,
    batch_size: int | None = None,
    memory_mb: int = MEMORY_MB,
    depth: int = 0,
    pool: npt.NDArray[np.bool_] | None = None,
    description: str | None = None,
) -> Ranks:
    """The ranks of every case's targets, ties counted against the model. Processes that divide the items
    (:attr:`Recommender.shard`) call it together with the same cases, and all have the ranks.

    The ``j``-th best target of a case has the rank *j + the number of other candidates that score at least as high*;
    targets never push each other down by a tie, and a target that occurs twice counts once.

    With ``exclude_seen`` a target that stands in the history cannot be recommended, so it is a miss whatever its score:
    such targets stay among the candidates and take the last places, and no list holds them.

    Args:
        exclude_seen: Leave the items of the history out of the ranking. Of no effect with ``candidates``.
        candidates: Rank among these instead of the whole catalogue.
        batch_size: Cases scored at a time, at most; see :func:`palate.evaluation.budget.plan`.
        memory_mb: For matrices of scores, in MiB. A catalogue that is too large for it is ranked in blocks of items.
        depth: Also keep the best ``depth`` items of each case, for metrics of whole lists.
        pool: bool ``[num_items + 1]``; rank among these items only (every target must be one of them).
        description: Report progress under this name.

    Raises:
        PalateError: NaN scores, a score matrix of the wrong shape, targets outside the catalogue or the pool,
            candidates that were made for other cases.
    """
    at_once = plan(recommender, batch_size, memory_mb)
    targets = _unique_targets(cases, recommender.num_items)
    users = cases_at_once(recommender, batch_size, memory_mb, sampled=candidates is not None)
    order = _order(cases.histories, targets)
    histories, targets = cases.histories.take(order), targets.take(order)
    if candidates is not None:
        candidates.check(cases)
        batches = _candidate_batches(recommender, histories, targets, candidates.items[order], users)
    else:
        removed, sizes = _removed(histories, targets, recommender.num_items, exclude_seen, pool)
        targets, seen = _seen_last(histories, targets, recommender.num_items) if exclude_seen else (targets, None)
        batches = _catalogue_batches(recommender, histories, targets, seen, removed, sizes, pool, depth, at_once)
    if description:
        batches = track(batches, description, total=len(cases), weight=users)
    with torch.no_grad():
        parts = list(batches)
    lists = np.concatenate([part.lists for part in parts]) if depth and candidates is None and parts else None
    ranks = Ranks(
        values=np.concatenate([part.ranks for part in parts]) if parts else np.empty(0, np.int64),
        items=np.concatenate([part.items for part in parts]) if parts else np.empty(0, np.int32),
        offsets=targets.offsets,
        num_candidates=np.concatenate([part.sizes for part in parts]) if parts else np.empty(0, np.int64),
        lists=lists,
    )
    return ranks.take(np.argsort(order))


def ranking_order(cases: Cases, num_items: int) -> Ints:
    """The order in which :func:`rank_targets` takes cases into batches; consecutive batches of it can be ranked apart.

    Raises:
        PalateError: targets outside the catalogue.
    """
    return _order(cases.histories, _unique_targets(cases, num_items))


def _order(histories: Sequences, targets: Sequences) -> Ints:
    """Cases with many targets first: those that still have a j-th target are then the first rows of every batch. Long
    histories next to each other: models that pad lose less."""
    return np.lexsort((-histories.lengths, -targets.lengths))


class _Part(NamedTuple):
    """The ranks of one batch, flat in row order; see :class:`Ranks`."""

    ranks: Ints
    items: npt.NDArray[np.int32]
    sizes: Ints
    lists: npt.NDArray[np.int32]


def _unique_targets(cases: Cases, num_items: int) -> Sequences:
    """The distinct targets of every case."""
    targets = cases.targets
    if not targets.lengths.all():
        raise PalateError(f"evaluation case {int(np.argmin(targets.lengths))} has no target", "Leave such cases out.")
    if len(targets.values) and not (targets.values.min() >= 1 and targets.values.max() <= num_items):
        raise PalateError(
            f"a target is outside the model's {num_items} items", "Evaluate on the dataset it was trained on."
        )
    if len(targets.values) == len(targets):
        return targets
    return _unique(_keys(targets, num_items + 1), len(targets), num_items + 1)


def _keys(rows: Sequences, width: int) -> Ints:
    """One integer for each (row, item)."""
    return np.repeat(np.arange(len(rows), dtype=np.int64) * width, rows.lengths) + rows.values


def _unique(keys: Ints, rows: int, width: int) -> Sequences:
    """The distinct (row, item) pairs as sequences, items ascending."""
    keys = np.unique(keys)
    return Sequences((keys % width).astype(np.int32), offsets_of(np.bincount(keys // width, minlength=rows)))


def _removed(
    histories: Sequences,
    targets: Sequences,
    num_items: int,
    exclude_seen: bool,
    pool: npt.NDArray[np.bool_] | None,
) -> tuple[Sequences, Ints]:
    """What of the score matrix is no competitor (padding, targets, perhaps the history), and how many items remain.

    They are few, so counting them in and taking them off again is cheaper than masking, and exact for -inf as well.
    """
    width, rows = num_items + 1, len(targets)
    keys = [np.arange(rows, dtype=np.int64) * width, _keys(targets, width)]
    if exclude_seen:
        keys.append(_keys(histories, width))
    merged = np.concatenate(keys)
    size = width
    if pool is not None:
        if not pool[targets.values].all():
            raise PalateError("a target is not among the items to rank", "Restrict the cases to those of the pool.")
        merged = merged[pool[merged % width] & (merged % width > 0)]
        size = int(np.count_nonzero(pool[1:]))
    removed = _unique(merged, rows, width)
    return removed, size - removed.lengths + targets.lengths


def _seen_last(
    histories: Sequences, targets: Sequences, num_items: int
) -> tuple[Sequences, npt.NDArray[np.bool_] | None]:
    """Targets with those of the case's own history behind the others, and which they are; None where there are none.

    The order decides between scores of -inf, which is what a seen target counts as: see :func:`_sorted_targets`.
    """
    keys, had = _keys(targets, num_items + 1), _keys(histories, num_items + 1)
    if not len(keys):
        return targets, None
    at = np.minimum(np.searchsorted(keys, had), len(keys) - 1)  # keys ascend: rows do, and items within a row
    seen = np.zeros(len(keys), np.bool_)
    seen[at[keys[at] == had]] = True
    if not seen.any():
        return targets, None
    order = np.lexsort((seen, np.repeat(np.arange(len(targets)), targets.lengths)))
    return Sequences(targets.values[order], targets.offsets), seen[order]


def _batches(rows: int, size: int) -> Iterator[slice]:
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


def _catalogue_batches(
    recommender: Recommender,
    histories: Sequences,
    targets: Sequences,
    seen: npt.NDArray[np.bool_] | None,
    removed: Sequences,
    sizes: Ints,
    pool: npt.NDArray[np.bool_] | None,
    depth: int,
    at_once: Plan,
) -> Iterator[_Part]:
    width = recommender.num_items + 1
    ranked = None if pool is None else np.flatnonzero(pool[1:]) + 1
    for rows in _batches(len(targets), at_once.users):
        batch = targets[rows]
        missed = None if seen is None else seen[targets.offsets[rows.start] : targets.offsets[rows.stop]]
        check, shard = partial(_checked, len(batch)), recommender.shard
        ranking = BatchRanking(batch, missed, removed[rows], ranked, depth, check, shard)
        if at_once.items >= width and shard is None:
            scores = _checked(len(batch), recommender.score(histories[rows]), width)
            counts, items, best = ranking.whole(scores)
        else:
            scorer = recommender.item_scorer(histories[rows], at_once.memory)
            counts, items, best = ranking.in_blocks(scorer, width, at_once.items)
        yield _flat(counts, items, batch, sizes[rows], best.int().cpu().numpy())


def _candidate_batches(
    recommender: Recommender,
    histories: Sequences,
    targets: Sequences,
    items: npt.NDArray[np.int32],
    batch_size: int,
) -> Iterator[_Part]:
    for rows in _batches(len(targets), batch_size):
        batch = targets[rows]
        ids = torch.from_numpy(items[rows].astype(np.int64))
        # A model that looks at a whole list must not learn from its order that the targets come first.
        order = shuffled(ids)
        mixed = recommender.score(histories[rows], ids.gather(1, order))
        mixed = _checked(len(ids), mixed, ids.shape[1]).cpu()
        scores = torch.empty_like(mixed).scatter_(1, order, mixed)
        lengths = torch.from_numpy(batch.lengths)[:, None]
        # A candidate row holds its targets first, then the others, then padding.
        is_target = torch.arange(ids.shape[1]) < lengths
        width = int(batch.lengths.max())
        best = scores[:, :width].masked_fill(~is_target[:, :width], -torch.inf)
        best, at = best.sort(dim=1, descending=True, stable=True)
        others = scores.masked_fill(is_target | (ids == 0), torch.nan)  # NaN >= x is false for every x
        sizes = (ids != 0).sum(1).numpy()
        no_lists = np.empty((0, 0), np.int32)
        yield _flat(count(others, best, batch), ids[:, :width].gather(1, at), batch, sizes, no_lists)


def shuffled(items: Tensor) -> Tensor:
    """An order of every row that tells nothing of how the row was made: int64 ``[B, C]`` of columns.

    It depends on the items alone, so the same set of items is always shown in the same order.
    """
    # Multiplicative hashing (Knuth, The Art of Computer Programming 3, section 6.4).
    return torch.argsort((items * 2654435761) % 2**32, dim=1, stable=True)


def _checked(rows: int, scores: Tensor, columns: int) -> Tensor:
    """Scores as float, or a clear error about the model that gave them."""
    if scores.shape != (rows, columns):
        raise PalateError(
            f"the model gave scores of shape {tuple(scores.shape)} instead of {(rows, columns)}", "Mend its score()."
        )
    scores = scores.detach().float()
    # A sum is the fastest pass there is; it is NaN if any score is (or for inf - inf, hence the second look).
    if torch.isnan(scores.sum(1)).any() and torch.isnan(scores).any():
        raise PalateError("the model gave scores that are not numbers (NaN)", "Train it again with a lower rate.")
    return scores


def _flat(counts: Tensor, items: Tensor, targets: Sequences, sizes: Ints, lists: npt.NDArray[np.int32]) -> _Part:
    ranks = (counts + torch.arange(1, counts.shape[1] + 1, device=counts.device)).cpu().numpy()
    real = np.arange(ranks.shape[1]) < targets.lengths[:, None]
    return _Part(ranks[real], items.cpu().numpy()[real].astype(np.int32), sizes, lists)
