"""What a negative strategy is, what it may look at, and what it returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from palate.negatives import NEGATIVES
from palate.negatives.row_sets import RowSets, draw_members, draw_uniform, draw_weighted

if TYPE_CHECKING:
    from palate.negatives.config import NegativesConfig

# Scores held at once while pools are made.
_BLOCK_ELEMENTS = 8_000_000

Source = Literal["catalogue", "batch", "scores", "dislikes", "impressions"]
Items = npt.NDArray[np.int32]


class NegativeStrategy(ABC):
    """Chooses rejected items. Stateless: its settings are those of :class:`palate.negatives.config.NegativesConfig`.

    Attributes:
        source: what the items come from: the ``catalogue`` (nothing but training counts decides), the ``batch`` (its
            other targets), the model's ``scores`` (its best items: a pool), the user's ``dislikes``, or the
            ``impressions``: what the user was shown.
        for_cases: whether :meth:`pick` can serve a single case, as language models need it.
        takes_whole_pool: the pool is as large as the number of negatives, whatever ``pool_k`` is.
        reads: which of ``pool_k``, ``temperature``, ``mix``, ``power`` and ``precision`` decide the draw; None: it is
            not known.
    """

    source: ClassVar[Source]
    for_cases: ClassVar[bool] = True
    takes_whole_pool: ClassVar[bool] = False
    reads: ClassVar[tuple[str, ...] | None] = None

    @abstractmethod
    def draw(self, context: SamplingContext, config: NegativesConfig) -> RejectedItems:
        """``config.num_negatives`` rejected classes for every row of a ranker's batch."""

    def pick(self, candidates: Items, count: int, rng: np.random.Generator) -> Items:
        """``count`` different items of one case: int32 ``[count]``.

        Args:
            candidates: int32 ``[K]``, at least ``count``: the pool, best first, or what the user dislikes.
        """
        return rng.choice(candidates, count, replace=False)


class WeightedStrategy(NegativeStrategy):
    """Draws item ``i`` with probability ``w_i / sum_j w_j`` over the items that are allowed; no model is needed."""

    source = "catalogue"
    reads: ClassVar[tuple[str, ...] | None] = ("power",)

    @abstractmethod
    def weights(self, counts: Tensor, power: float) -> Tensor | None:
        """The weight of each item, float64 and shaped like ``counts``; None where all weigh the same.

        Args:
            counts: float64, training interactions of each item.
            power: the setting ``power``; 1 where there is none.
        """

    def draw(self, context: SamplingContext, config: NegativesConfig) -> RejectedItems:
        weights = self.weights(context.counts.double(), config.power)
        return RejectedItems(*context.draw(config.num_negatives, weights))

    def of_catalogue(self, train_counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """The weights of all items, for :mod:`palate.data.negatives`: float64 ``[num_items + 1]``, 0 for padding."""
        made = self.weights(torch.from_numpy(train_counts).double(), 1.0)
        weights = np.ones(len(train_counts)) if made is None else made.numpy().copy()
        weights[0] = 0.0
        return weights


def unread_settings(names: Sequence[str], *strategies: NegativeStrategy) -> dict[str, str]:
    """Those of the settings ``names`` that none of the strategies reads, each with the strategies that do."""
    if any(one.reads is None for one in strategies):
        return {}
    read = {name for one in strategies for name in one.reads or ()}
    return {name: f"negatives {' or '.join(_readers(name))}" for name in names if name not in read}


def _readers(setting: str) -> list[str]:
    """Built-in strategies that read a setting; no plug-in is loaded for the wording of a note."""
    return sorted(name for name in NEGATIVES.builtin if setting in (NEGATIVES[name].reads or ()))


def is_weighted(strategy: type[NegativeStrategy]) -> bool:
    """Whether a strategy draws by weights of the catalogue, so that no model, batch or user's dislikes are needed."""
    return issubclass(strategy, WeightedStrategy)


@dataclass(frozen=True)
class RejectedItems:
    """Drawn classes.

    Attributes:
        classes: int64 ``[P, N]``.
        valid: bool ``[P, N]``: False where nothing could be drawn.
        pool: int64 ``[P, K]``, the pool they were drawn from, best first, or None.
        pool_valid: bool ``[P, K]``: False where a row allows fewer than ``K``; None without a pool.
        facts: of the draw, for the diagnostics.
    """

    classes: Tensor
    valid: Tensor
    pool: Tensor | None = None
    pool_valid: Tensor | None = None
    facts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SamplingContext:
    """What a draw may look at: the rows of a batch, over *classes*, the items that were trained on.

    An item without a training interaction is never pushed away. The target and the history up to it are forbidden
    (and, on request, what the user takes later in training); validation and test items never are: the model may not
    know them. An item that is all but the same as what was taken (another size, the same shirt in another colour) is a
    likely false negative: such twins may be forbidden as well, or be all that is allowed.

    Attributes:
        targets: int64 ``[P]``, classes.
        forbidden: of each row.
        counts: float ``[n]``, training interactions of each class.
        scores: makes the scores ``[rows, n]`` of all classes for a slice of rows; the result may be overwritten.
        others: int64 ``[T]``, all the step's targets, classes.
        dislikes: what each row's user rated low, or None.
        generator: on the device of ``targets``.
        twins: near twins of what each row's user took, forbidden or not; None where nothing looks at them.
        allowed: nothing else may be drawn, if it is not None; none of it is forbidden.
        shown: what each row's user was shown with the target and did not take, or None.
        shown_elsewhere: the same of the user's other requests, in rows that have nothing in ``shown``.
    """

    targets: Tensor
    forbidden: RowSets
    counts: Tensor
    scores: Callable[[slice], Tensor]
    others: Tensor
    dislikes: RowSets | None = None
    generator: torch.Generator | None = None
    twins: RowSets | None = None
    allowed: RowSets | None = None
    shown: RowSets | None = None
    shown_elsewhere: RowSets | None = None

    def limited(self, config: NegativesConfig) -> SamplingContext:
        """With twins forbidden, or with nothing else allowed, as the settings have it."""
        if not config.content_aware:
            return self
        assert self.twins is not None
        if config.twins == "out":
            return replace(self, forbidden=self.forbidden.union(self.twins))
        return replace(self, allowed=self.twins.minus(self.forbidden))

    def permits(self, classes: Tensor) -> Tensor:
        """bool ``[P, C]``: which classes may be drawn."""
        if self.allowed is not None:
            return self.allowed.has(classes)
        return ~self.forbidden.has(classes)

    def only_allowed(self, sets: RowSets) -> RowSets:
        """The members of each row's set that may be drawn."""
        return sets.minus(self.forbidden) if self.allowed is None else sets.intersection(self.allowed)

    def mask(self, scores: Tensor, first: int) -> None:
        """Minus infinity, in place, for what may not be drawn; ``scores`` are of the rows from ``first`` on."""
        if self.allowed is not None:
            self.allowed.keep(scores, first)
        else:
            self.forbidden.mask(scores, first)

    def draw(self, count: int, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Classes and valid ``[P, count]``, with replacement: evenly, or by weight (float64 ``[n]``)."""
        if self.allowed is not None:
            return draw_members(self.allowed, count, self.generator, weights)
        if weights is not None:
            return draw_weighted(self.forbidden, weights, count, self.generator)
        return draw_uniform(self.forbidden, count, self.generator)

    def best(self, size: int) -> tuple[Tensor, Tensor]:
        """Scores and classes ``[P, size]`` of each row's best-scored classes; minus infinity: not allowed."""
        rows, width = len(self.targets), self.forbidden.width
        step = max(1, _BLOCK_ELEMENTS // width)  # a few rows are scored at a time
        values, pools = [], []
        for first in range(0, max(rows, 1), step):
            scores = self.scores(slice(first, first + step))
            self.mask(scores, first)
            best = torch.topk(scores, size, dim=1)
            values.append(best.values.float())
            pools.append(best.indices)
        return torch.cat(values), torch.cat(pools)
