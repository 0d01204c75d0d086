"""Diagnostics of the pairs of one step: ranks of the negatives, drift of the policy, suspected false negatives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from palate.negatives.row_sets import RowSets
from palate.objectives import Scores
from palate.objectives.preference import Pairs, Preference, pair_weights

if TYPE_CHECKING:
    from palate.alignment.pairs import PairBatch

# At most this many rows of a step are compared with the whole catalogue.
_WATCHED = 1024
# Upper ends of the bins of negatives' ranks; the last bin is open.
RANK_EDGES = (1, 5, 10, 20, 50, 100, 500)
RANK_NAMES = (
    "rank_1",
    "rank_2_5",
    "rank_6_10",
    "rank_11_20",
    "rank_21_50",
    "rank_51_100",
    "rank_101_500",
    "rank_501_on",
)


@torch.no_grad()
def watch_pairs(
    preference: Preference,
    pairs: Pairs,
    drawn: PairBatch,
    reference: Scores | None,
    classes: Tensor,
    later: RowSets,
) -> dict[str, float]:
    """Numbers of one step.

    * ``rank_*``: share of the negatives by their rank among the items that the user has not taken so far (1 is the
      best), near twins included.
    * ``chosen_drift``: mean of ``log pi(y+) - log pi_ref(y+)``, the softmax over the trained items.
    * ``pool_later``: share of the pool (of the negatives, where there is no pool) that the user takes later in
      training.
    * ``rejected_later``: share of the negatives that the user takes later in training.
    * ``gradient_later``: the share of the preference gradient, ``sum |dL/dDelta|``, that such negatives carry.
    * ``from_request``, ``from_other_requests``, ``from_fallback``: shares of the draws of ``shown``.
    * ``twins``, ``rows_without_twins``, ``pool_twins``: where the settings use near twins, see :func:`_twins`.

    Args:
        later: what each row's user takes after the target, training split only.
    """
    rejected, situation = drawn.rejected, drawn.situation
    valid = rejected.valid
    facts: dict[str, float] = dict(rejected.facts)
    weights = pair_weights(preference, pairs)  # workers call this together, with pairs or without
    if bool(valid.any()):
        is_later = later.has(rejected.classes)
        facts["gradient_later"] = float((weights * is_later).sum() / weights.sum().clamp_min(1e-30))
        facts["rejected_later"] = float(is_later[valid].float().mean())
        facts |= _ranks(drawn)
        compared, counted = rejected.classes, valid
        if rejected.pool is not None and rejected.pool_valid is not None:
            compared, counted = rejected.pool, rejected.pool_valid
        facts["pool_later"] = float(later.has(compared)[counted].float().mean())
    if situation.twins is not None and len(situation.targets):
        facts |= _twins(drawn, situation.twins)
    if reference is not None and len(situation.targets):
        some = torch.arange(min(len(situation.targets), _WATCHED), device=valid.device)
        drifts = [_log_probability(s.take(some), classes, situation.targets[some]) for s in (drawn.policy, reference)]
        facts["chosen_drift"] = float((drifts[0] - drifts[1]).mean())
    return facts


def _ranks(drawn: PairBatch) -> dict[str, float]:
    """Share of the valid negatives in each bin of ranks."""
    rejected, situation = drawn.rejected, drawn.situation
    valid = rejected.valid[:_WATCHED]
    scores = situation.scores(slice(0, _WATCHED))
    of_rejected = scores.gather(1, rejected.classes[:_WATCHED])
    situation.forbidden.mask(scores)
    ranks = 1 + torch.stack([(scores > of_rejected[:, n : n + 1]).sum(1) for n in range(valid.shape[1])], 1)
    bins = torch.bucketize(ranks[valid], torch.tensor(RANK_EDGES, device=ranks.device))
    shares = torch.bincount(bins, minlength=len(RANK_NAMES)) / max(1, len(bins))
    return dict(zip(RANK_NAMES, shares.tolist(), strict=True)) if len(bins) else {}


def _twins(drawn: PairBatch, twins: RowSets) -> dict[str, float]:
    """Mean per row of its near twins that might be drawn otherwise, and of those in the pool that it would have had.

    ``rows_without_twins`` is the share of the rows that have none.
    """
    situation, pool = drawn.situation, drawn.rejected.pool
    sizes = twins.minus(situation.forbidden).sizes
    facts = {"twins": float(sizes.float().mean()), "rows_without_twins": float((sizes == 0).float().mean())}
    if pool is not None:
        scores = situation.scores(slice(0, _WATCHED))
        situation.forbidden.mask(scores)
        best = torch.topk(scores, pool.shape[1], dim=1)
        inside = twins.has(best.indices) & (best.values > -torch.inf)
        facts["pool_twins"] = float(inside.sum(1).float().mean())
    return facts


def _log_probability(scores: Scores, classes: Tensor, targets: Tensor) -> Tensor:
    """``log softmax(s)[target]`` ``[P]`` over ``classes``."""
    logits = scores.full().index_select(1, classes)
    return logits.gather(1, targets.unsqueeze(1)).squeeze(1) - logits.logsumexp(1)
