"""Rank the targets of many cases without sorting the catalogue: count what scores at least as high.

A score matrix of one batch is read a handful of times while it is still in the processor's cache, so ranking costs a
small fraction of the matrix product that made the scores. Ties count against the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from palate.data.dataset import Cases
from palate.data.sequences import Sequences, offsets_of
from palate.errors import PalateError
from palate.evaluation.candidates import Candidates
from palate.evaluation.ranks import Ints, Ranks
from palate.progress import track
from palate.recommender import Recommender
from palate.topk import best_items

# Floats counted at a time: 64 rows of 12,000 items are 3 MB, which stays in the cache between the two passes.
_BLOCK = 1 << 20
# Above this many items a float32 can no longer count them one by one.
_EXACT_FLOAT32 = 1 << 24


def rank_targets(
    recommender: Recommender,
    cases: Cases,
    *,
    exclude_seen: bool,
    candidates: Candidates | None = None,
    batch_size: int = 256,
    depth: int = 0,
    pool: npt.NDArray[np.bool_] | None = None,
    description: str | None = None,
) -> Ranks:
    """The ranks of every case's targets, ties counted against the model.

    The ``j``-th best target of a case has the rank *j + the number of other candidates that score at least as high*;
    targets never push each other down by a tie, and a target that occurs twice counts once.

    With ``exclude_seen`` a target that stands in the history cannot be recommended, so it is a miss whatever its score:
    such targets stay among the candidates and take the last places, and no list holds them.

    Args:
        exclude_seen: Leave the items of the history out of the ranking. Of no effect with ``candidates``.
        candidates: Rank among these instead of the whole catalogue.
        batch_size: Cases scored at a time.
        depth: Also keep the best ``depth`` items of each case, for metrics of whole lists.
        pool: bool ``[num_items + 1]``; rank among these items only (every target must be one of them).
        description: Report progress under this name.

    Raises:
        PalateError: NaN scores, a score matrix of the wrong shape, targets outside the catalogue or the pool,
            candidates that were made for other cases.
    """
    targets = _unique_targets(cases, recommender.num_items)
    order = _order(cases.histories, targets)
    histories, targets = cases.histories.take(order), targets.take(order)
    if candidates is not None:
        candidates.check(cases)
        batches = _candidate_batches(recommender, histories, targets, candidates.items[order], batch_size)
    else:
        removed, sizes = _removed(histories, targets, recommender.num_items, exclude_seen, pool)
        targets, seen = _seen_last(histories, targets, recommender.num_items) if exclude_seen else (targets, None)
        batches = _catalogue_batches(recommender, histories, targets, seen, removed, sizes, pool, batch_size, depth)
    if description:
        batches = track(batches, description, total=len(cases), weight=batch_size)
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
    if size < 1:
        raise PalateError(f"batch_size is {size}", "Give at least 1.")
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
    batch_size: int,
    depth: int,
) -> Iterator[_Part]:
    columns = None if pool is None else torch.from_numpy(np.flatnonzero(pool[1:]) + 1)
    for rows in _batches(len(targets), batch_size):
        batch = targets[rows]
        scores = _checked(recommender.score(histories[rows]), len(batch), recommender.num_items + 1)
        missed = None if seen is None else seen[targets.offsets[rows.start] : targets.offsets[rows.stop]]
        best, items = _sorted_targets(scores, batch, missed)
        matrix = scores if columns is None else scores[:, columns.to(scores.device)]
        ranks = _count(matrix, best, batch) - _count_removed(scores, best, batch, removed[rows])
        lists = _best(scores, removed[rows], batch, missed, pool, depth) if depth else np.empty((0, 0), np.int32)
        yield _flat(ranks, items, batch, sizes[rows], lists)


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
        shuffled_scores = _checked(recommender.score(histories[rows], ids.gather(1, order)), *ids.shape).cpu()
        scores = torch.empty_like(shuffled_scores).scatter_(1, order, shuffled_scores)
        lengths = torch.from_numpy(batch.lengths)[:, None]
        # A candidate row holds its targets first, then the others, then padding.
        is_target = torch.arange(ids.shape[1]) < lengths
        width = int(batch.lengths.max())
        best = scores[:, :width].masked_fill(~is_target[:, :width], -torch.inf)
        best, at = best.sort(dim=1, descending=True, stable=True)
        others = scores.masked_fill(is_target | (ids == 0), torch.nan)  # NaN >= x is false for every x
        sizes = (ids != 0).sum(1).numpy()
        no_lists = np.empty((0, 0), np.int32)
        yield _flat(_count(others, best, batch), ids[:, :width].gather(1, at), batch, sizes, no_lists)


def shuffled(items: Tensor) -> Tensor:
    """An order of every row that tells nothing of how the row was made: int64 ``[B, C]`` of columns.

    It depends on the items alone, so the same set of items is always shown in the same order.
    """
    # Multiplicative hashing (Knuth, The Art of Computer Programming 3, section 6.4).
    return torch.argsort((items * 2654435761) % 2**32, dim=1, stable=True)


def _checked(scores: Tensor, rows: int, columns: int) -> Tensor:
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


def _sorted_targets(scores: Tensor, targets: Sequences, missed: npt.NDArray[np.bool_] | None) -> tuple[Tensor, Tensor]:
    """Scores and items of the targets, best first: ``[B, most targets]``, padded with -inf and 0.

    Those that are ``missed`` (bool ``[targets]``, the last ones of each row) count as -inf, which every score reaches.
    """
    lengths = targets.lengths
    if lengths.max() == 1:
        items = torch.from_numpy(targets.values.astype(np.int64))[:, None].to(scores.device)
        values = scores.gather(1, items)
        if missed is not None:
            values = values.masked_fill(torch.from_numpy(missed)[:, None].to(scores.device), -torch.inf)
        return values, items
    real = np.arange(lengths.max()) < lengths[:, None]
    padded = np.zeros(real.shape, np.int64)
    padded[real] = targets.values
    items = torch.from_numpy(padded).to(scores.device)
    if missed is not None:
        real[real] = ~missed
    worst = torch.from_numpy(~real).to(scores.device)
    # The sort is stable, missed targets stand behind the others and padding behind both: so they do among -inf.
    values, at = scores.gather(1, items).masked_fill(worst, -torch.inf).sort(dim=1, descending=True, stable=True)
    return values, items.gather(1, at)


def _count(scores: Tensor, best: Tensor, targets: Sequences) -> Tensor:
    """How many of a row's scores reach those of its targets: int64 ``[B, most targets]``."""
    counts = torch.zeros(best.shape, dtype=torch.int64, device=scores.device)
    columns = scores.shape[1]
    exact = torch.float32 if columns < _EXACT_FLOAT32 else torch.float64
    block = max(1, _BLOCK // max(columns, 1))
    reached = torch.empty((min(block, len(scores)), columns), dtype=torch.float32, device=scores.device)
    with_more = _rows_with_more_than(targets)
    for start in range(0, len(scores), block):
        for j in range(best.shape[1]):
            stop = min(start + block, with_more[j])
            if stop <= start:
                break
            # 1.0 and 0.0 summed as floats: several times faster than summing booleans.
            ones = torch.ge(scores[start:stop], best[start:stop, j : j + 1], out=reached[: stop - start])
            counts[start:stop, j] = ones.sum(1, dtype=exact).long()
    return counts


def _count_removed(scores: Tensor, best: Tensor, targets: Sequences, removed: Sequences) -> Tensor:
    """How many of the removed items :func:`_count` has counted: int64 ``[B, most targets]``."""
    row = torch.from_numpy(np.repeat(np.arange(len(removed)), removed.lengths)).to(scores.device)
    values = scores[row, torch.from_numpy(removed.values.astype(np.int64)).to(scores.device)]
    offsets = torch.from_numpy(removed.offsets).to(scores.device)
    counts = torch.zeros(best.shape, dtype=torch.int64, device=scores.device)
    for j, rows in enumerate(_rows_with_more_than(targets)):
        stop = int(removed.offsets[rows])
        running = torch.zeros(stop + 1, dtype=torch.int64, device=scores.device)
        torch.cumsum(values[:stop] >= best[row[:stop], j], 0, out=running[1:])
        counts[:rows, j] = running[offsets[1 : rows + 1]] - running[offsets[:rows]]
    return counts


def _rows_with_more_than(targets: Sequences) -> list[int]:
    """``[j]``: how many rows have more than ``j`` targets; they are the first ones, for rows come sorted by that."""
    lengths = targets.lengths
    return [int(rows) for rows in np.searchsorted(-lengths, -np.arange(lengths.max()), side="left")]


def _best(
    scores: Tensor,
    removed: Sequences,
    targets: Sequences,
    missed: npt.NDArray[np.bool_] | None,
    pool: npt.NDArray[np.bool_] | None,
    depth: int,
) -> npt.NDArray[np.int32]:
    """The best items of each row that may be recommended: int32 ``[B, depth]``, equal scores by item index."""
    allowed = scores.clone()
    if pool is not None:
        allowed[:, torch.from_numpy(~pool).to(scores.device)] = -torch.inf
    for rows, back in ((removed, False), (targets, True)):  # all that is removed, then the targets put back
        pick = ~missed if back and missed is not None else slice(None)
        row = torch.from_numpy(np.repeat(np.arange(len(rows)), rows.lengths)[pick]).to(scores.device)
        item = torch.from_numpy(rows.values.astype(np.int64)[pick]).to(scores.device)
        allowed[row, item] = scores[row, item] if back else -torch.inf
    allowed[:, 0] = -torch.inf
    return best_items(allowed, depth)[0].int().cpu().numpy()


def _flat(counts: Tensor, items: Tensor, targets: Sequences, sizes: Ints, lists: npt.NDArray[np.int32]) -> _Part:
    ranks = (counts + torch.arange(1, counts.shape[1] + 1, device=counts.device)).cpu().numpy()
    real = np.arange(ranks.shape[1]) < targets.lengths[:, None]
    return _Part(ranks[real], items.cpu().numpy()[real].astype(np.int32), sizes, lists)
