"""The pairs of a step: which positions give them, which item is chosen, which are rejected."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from palate.alignment.config import AlignConfig
from palate.alignment.prefixes import Prefixes
from palate.alignment.shown import ShownItems
from palate.alignment.twins import Twins
from palate.negatives.base import RejectedItems, SamplingContext
from palate.negatives.config import NegativesConfig, draw_rejected
from palate.negatives.row_sets import RowSets
from palate.objectives import Batch, Scores
from palate.objectives.base import Bias
from palate.rankers.packing import PackedBatch
from palate.rankers.sequential import SequentialRanker
from palate.training.batches import TrainingSequences

Places = npt.NDArray[np.int64]
# Items that a position must see, if its user has as many, to give a pair.
_CONTEXT = 10
# Batches of a sample of pairs.
_SAMPLE = 16


@dataclass(frozen=True)
class PairBatch:
    """The pairs of one step.

    Attributes:
        packed: the windows that give pairs.
        token_places: int64 ``[T']``, places of their tokens in the log.
        rows: int64 ``[P]``, the tokens whose targets are chosen items.
        row_places: int64 ``[P]``.
        policy: scores at ``rows``.
        items: int64 ``[P, 1 + N]``: chosen, then rejected (anything where not valid).
        situation: what the draw depended on.
        rejected: what it gave.
    """

    packed: PackedBatch
    token_places: Places
    rows: Tensor
    row_places: Places
    policy: Scores
    items: Tensor
    situation: SamplingContext
    rejected: RejectedItems


class PairDrawer:
    """Draws the pairs of a batch.

    Args:
        counts: float ``[num_items + 1]``, training interactions, on the model's device.
        prefixes: what came before and comes after each place.
        dislikes: what each user rated low, one row per user, for ``disliked`` negatives.
        joins: a batch without pairs still goes through the model: other workers wait for this one.
        twins: near twins of every item, for negatives that look at them.
        shown: what was shown and not taken, for ``shown`` negatives.
    """

    def __init__(
        self,
        config: AlignConfig,
        negatives: NegativesConfig,
        prefixes: Prefixes,
        counts: Tensor,
        dislikes: Prefixes | None = None,
        joins: bool = False,
        twins: Twins | None = None,
        shown: ShownItems | None = None,
    ) -> None:
        self.config, self.negatives, self.prefixes = config, negatives, prefixes
        self.dislikes, self.joins, self.twins, self.shown = dislikes, joins, twins, shown
        classes = torch.nonzero(counts).squeeze(1)
        self.class_of = torch.full((len(counts),), -1, dtype=torch.long, device=counts.device)
        self.class_of[classes] = torch.arange(len(classes), device=counts.device)

    def draw(
        self,
        model: nn.Module,
        packed: PackedBatch,
        batch: Batch,
        places: Places,
        scores: Scores | None = None,
        shared: bool = False,
    ) -> PairBatch | None:
        """The pairs of a batch, and the policy's scores at their positions; None if there are none.

        Args:
            scores: the policy's, of the whole batch and in training mode, if they were made.
            shared: take them; else the policy scores again, in eval mode.
        """
        chosen = self._choose(packed, batch, places)
        if chosen is None:
            return None
        if shared:
            assert scores is not None
            rows = torch.from_numpy(chosen[1]).to(packed.device)[chosen[2]]
            tokens = np.arange(len(places))
            policy = scores.take(rows)
        else:
            packed, tokens, rows = chosen
            policy = _clean(model, packed, scores).take(rows)
        token_places = places[tokens]
        row_places = token_places[rows.cpu().numpy()]
        targets = self._targets(row_places, batch.generator, packed.device)
        situation = self._situation(policy, batch, targets, row_places)
        rejected = draw_rejected(self.negatives, situation)
        items = torch.cat([targets.unsqueeze(1), batch.classes[rejected.classes]], dim=1)
        return PairBatch(packed, token_places, rows, row_places, policy, items, situation, rejected)

    def _targets(self, places: Places, generator: torch.Generator | None, device: torch.device) -> Tensor:
        """int64 ``[P]``: the chosen item of each place."""
        if self.config.horizon == 1:
            return torch.from_numpy(self.prefixes.ahead(places, np.ones_like(places))).to(device)
        share = torch.rand(len(places), generator=generator, device=device, dtype=torch.float64).cpu().numpy()
        left = np.minimum(self.prefixes.left(places), self.config.horizon)
        return torch.from_numpy(self.prefixes.ahead(places, 1 + (share * left).astype(np.int64))).to(device)

    def future(self, drawn: PairBatch, batch: Batch) -> RowSets:
        """What each row's user takes later, training split only."""
        return self.classes(*self.prefixes.future(drawn.row_places), len(drawn.items), len(batch.classes))

    def _choose(self, packed: PackedBatch, batch: Batch, places: Places) -> tuple[PackedBatch, Places, Tensor] | None:
        """The windows that give pairs, their tokens in the batch, and the rows of those that are pairs' targets."""
        keep = np.ones(len(packed.lengths), bool)
        if self.config.share < 1:
            device = packed.device
            dice = torch.rand(len(keep), generator=batch.generator, device=device) < self.config.share
            keep = dice.cpu().numpy()
        eligible = self._eligible(packed, places)
        if not batch.share:  # the windows are another worker's
            eligible[:] = False
        keep &= np.logical_or.reduceat(eligible, packed.starts)
        if not keep.any():
            if not self.joins:
                return None
            keep[0] = True  # a worker among several joins in whatever the others compute together, with no pair
            eligible[: packed.lengths[0]] = False
        tokens = np.flatnonzero(np.repeat(keep, packed.lengths))
        if not keep.all():
            packed = packed.only(keep)
        rows = np.flatnonzero(eligible[tokens])
        return packed, tokens, torch.from_numpy(rows).to(packed.device)

    def _eligible(self, packed: PackedBatch, places: Places) -> npt.NDArray[np.bool_]:
        """bool ``[T]``: the tokens whose targets may be chosen items."""
        if self.config.positions == "last":
            return self.prefixes.last(places)
        # A later window of a long history begins with less context than the model will ever have when it is queried.
        within = np.arange(len(places)) - np.repeat(packed.starts, packed.lengths)
        eligible: npt.NDArray[np.bool_] = (within >= min(_CONTEXT, packed.width) - 1) | (
            self.prefixes.before(places) == within
        )
        return eligible

    def _situation(self, policy: Scores, batch: Batch, targets: Tensor, places: Places) -> SamplingContext:
        count, width = len(targets), len(batch.classes)
        rows, items = self.prefixes.past(places, self.config.horizon)
        if self.negatives.mask_future:
            more = self.prefixes.future(places)
            rows, items = np.concatenate([rows, more[0]]), np.concatenate([items, more[1]])
        dislikes = None
        if self.dislikes is not None and self.negatives.chosen.source == "dislikes":
            users = self.prefixes.owners(places)
            dislikes = self.classes(*self.dislikes.of_users(users), count, width)

        dtype = torch.bfloat16 if self.negatives.precision == "bfloat16" else torch.float32

        queries = policy.queries.detach()
        table = policy.items.detach().index_select(0, batch.classes).to(dtype)
        bias = policy.bias
        if bias is not None:
            classes = self.class_of[bias.items]
            known = classes >= 0
            bias = Bias(bias.rows[known], classes[known], bias.values.detach()[known].to(dtype))

        def scores(part: slice) -> Tensor:
            products = queries[part].to(dtype) @ table.T
            if bias is not None:
                ends = (part.start or 0, count if part.stop is None else part.stop)
                edges = torch.tensor(ends, device=products.device)
                first, last = torch.searchsorted(bias.rows, edges).tolist()
                cells = (bias.rows[first:last] - edges[0], bias.items[first:last])
                products.index_put_(cells, bias.values[first:last], accumulate=True)
            return products

        forbidden = self.classes(rows, items, count, width)
        return SamplingContext(
            self.class_of[targets],
            forbidden,
            batch.counts.index_select(0, batch.classes),
            scores,
            self.class_of[batch.step_targets() if self.negatives.chosen.source == "batch" else batch.targets],
            dislikes,
            batch.generator,
            self._twins(targets, places, width),
            **self._shown(targets, places, forbidden),
        )

    def _shown(self, targets: Tensor, places: Places, forbidden: RowSets) -> dict[str, RowSets]:
        """What was shown with each target and, in rows without that, in the user's other requests."""
        if self.shown is None:
            return {}
        users, count, width = self.prefixes.owners(places), forbidden.count, forbidden.width
        same = self.classes(*self.shown.same_request(users, targets.cpu().numpy()), count, width)
        lacking = np.flatnonzero((same.minus(forbidden).sizes == 0).cpu().numpy())
        other = self.classes(*self.shown.other_requests(users, lacking), count, width)
        return {"shown": same, "shown_elsewhere": other}

    def _twins(self, targets: Tensor, places: Places, width: int) -> RowSets | None:
        """Near twins of each row's chosen item and, on request, of the newest items of its history."""
        if self.twins is None:
            return None
        rows, items = np.arange(len(targets)), targets.cpu().numpy()
        if self.twins.history:
            newest = self.prefixes.newest(places, self.twins.history)
            rows, items = np.concatenate([rows, newest[0]]), np.concatenate([items, newest[1]])
        return self.classes(*self.twins.of_rows(rows, items), len(targets), width)

    def classes(self, rows: npt.NDArray[np.int64], items: npt.NDArray[np.int64], count: int, width: int) -> RowSets:
        """Sets of classes from (row, item) pairs; items that are no class are left out."""
        device = self.class_of.device
        classes = self.class_of[torch.from_numpy(items).to(device)]
        known = classes >= 0
        return RowSets.of(torch.from_numpy(rows).to(device)[known], classes[known], count, width)


def sample_pairs(
    drawer: PairDrawer, model: SequentialRanker, data: TrainingSequences, counts: Tensor
) -> Iterator[PairBatch]:
    """The pairs of a few batches, drawn by a generator of their own.

    Args:
        counts: float ``[num_items + 1]``, training interactions, on the model's device.
    """
    device = model.device
    classes = torch.nonzero(counts).squeeze(1)
    generator = torch.Generator(device).manual_seed(data.seed)
    for windows in islice(data.batches(0), _SAMPLE):
        packed = PackedBatch.of(windows.inputs, data.max_length, device)
        batch = Batch(torch.from_numpy(windows.targets).to(device), classes, counts, None, generator)
        drawn = drawer.draw(model, packed, batch, windows.places)
        if drawn is not None:
            yield drawn


def _clean(model: nn.Module, packed: PackedBatch, known: Scores | None) -> Scores:
    """The scores in eval mode, with gradients if they are enabled.

    Args:
        known: scores in training mode, whose item vectors are taken over where they are the same.
    """
    ranker = getattr(model, "module", model)  # of a wrapper that several workers need
    table = known.items if known is not None and ranker.fixed_items else None
    was_training = model.training
    model.eval()
    # cuDNN has no backward for a recurrent network in eval mode; PyTorch's own kernels do.
    with torch.backends.cudnn.flags(enabled=packed.device.type != "cuda"):
        scores: Scores = model(packed, table)
    model.train(was_training)
    return scores
