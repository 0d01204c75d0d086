"""Where the rejected item of a pair comes from: a blind draw, the batch, the model's own best, or dislikes.

All work on *classes*, the items that were trained on (an item without a training interaction is never pushed away),
and all leave out the same items: the target and the history up to it (and, on request, what the user takes later in
training). Validation and test items are never left out: the model may not know them.

An item that is all but the same as what was taken (another size, the same shirt in another colour) is a likely false
negative. ``twins`` leaves such items out, or keeps nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import torch
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator
from torch import Tensor

from palate.config import Config
from palate.errors import PalateError
from palate.objectives.forbidden import RowSets, draw_members, draw_uniform, draw_weighted

# Scores held at once while pools are made.
_BLOCK_ELEMENTS = 8_000_000

_TWIN_SETTINGS = ("twin_source", "twin_cosine", "twin_history")

Strategy = Literal["uniform", "popularity", "in-batch", "hard", "top-k", "mixed", "disliked"]


class NegativesConfig(Config):
    """How rejected items are drawn (``--set negatives.KEY=VALUE``)."""

    strategy: Strategy = Field(
        "top-k",
        description="Where rejected items come from. uniform, popularity: the catalogue; in-batch: other rows' "
        "targets; hard: the best-scored items; top-k: uniformly from the pool_k best-scored (RoDPO's stochastic "
        "negatives); mixed: from that pool with probability mix, else uniformly; disliked: what the user rated low.",
    )
    pool_k: int | Literal["all"] = Field(
        20, description="Size of the pool of top-k and mixed, or all for every item that may be drawn."
    )
    num_negatives: int = Field(1, ge=1, description="Rejected items per pair; from a pool they are all different.")
    temperature: float = Field(
        0.0, ge=0, description="Draw inside the pool by softmax(score / temperature); 0: uniformly."
    )
    mix: float = Field(0.5, ge=0, le=1, description="See mixed.")
    power: float = Field(1.0, ge=0, description="popularity draws in proportion to the training count to this power.")
    mask_future: bool = Field(False, description="Never reject what the user takes later in training.")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="Of the scores that rank the catalogue for a pool; bfloat16 is several times faster where the "
        "processor multiplies it natively, and blurs the edge of the pool.",
    )
    twins: Literal["any", "out", "only"] = Field(
        "any",
        description="out never rejects a near twin of the chosen item; only rejects nothing else (a row without one "
        "has no pair); any does not look at content.",
    )
    twin_source: str | None = Field(
        None,
        min_length=1,
        description="Whose neighbours are twins: lexical, text, image, another feature store, or co-occurrence.",
    )
    twin_cosine: float = Field(0.5, gt=0, le=1, description="The least cosine of twins.")
    twin_history: int = Field(0, ge=0, description="Twins of this many of the history's newest items count as well.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if isinstance(self.pool_k, int) and self.pool_k < 1:
            raise ValueError("pool_k must be at least 1, or 'all'")
        if (
            self.pooled
            and isinstance(self.pool_k, int)
            and self.strategy != "hard"
            and self.num_negatives > self.pool_k
        ):
            raise ValueError(f"num_negatives is {self.num_negatives}, more than the pool of {self.pool_k}")
        if self.content_aware and self.twin_source is None:
            raise ValueError(f"twins is '{self.twins}' without a twin_source: name lexical, text, image or the like")
        idle = [key for key in _TWIN_SETTINGS if key in self.model_fields_set]
        if idle and not self.content_aware:
            raise ValueError(f"{idle[0]} does nothing without twins = 'out' or 'only'")
        return self

    @model_serializer(mode="wrap")
    def _plain(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the settings of twins where nothing looks at them: keys of runs from before stay what they were."""
        values: dict[str, Any] = handler(self)
        idle = () if self.content_aware else ("twins", *_TWIN_SETTINGS)
        return {key: value for key, value in values.items() if key not in idle}

    @property
    def content_aware(self) -> bool:
        """Whether twins are treated apart."""
        return self.twins != "any"

    @property
    def pooled(self) -> bool:
        """Whether negatives come from the model's own best."""
        return self.strategy in ("hard", "top-k", "mixed")

    @property
    def ranked(self) -> bool:
        """Whether a draw needs the scores of the whole catalogue."""
        return self.pooled and not (self.strategy != "hard" and self.pool_k == "all" and not self.temperature)

    def check_catalogue(self, classes: int) -> None:
        """Refuse a pool that no row could ever fill: of ``classes`` trained items a target and an input are left out.

        A row whose history leaves fewer than ``pool_k`` items has a smaller pool.
        """
        size = self.num_negatives if self.strategy == "hard" or self.pool_k == "all" else self.pool_k
        assert isinstance(size, int)
        if self.pooled and size > classes - 2:
            raise PalateError(
                f"a pool of {size} is larger than the catalogue allows: {classes} items were trained on",
                "Lower --num-negatives."
                if self.strategy == "hard"
                else f"Set --pool-k to at most {max(1, classes - 2)}, or to all.",
            )


@dataclass(frozen=True)
class RejectedItems:
    """Drawn classes.

    Attributes:
        classes: int64 ``[P, N]``.
        valid: bool ``[P, N]``: False where nothing could be drawn.
        pool: int64 ``[P, K]``, the pool they were drawn from, best first, or None.
        pool_valid: bool ``[P, K]``: False where a row allows fewer than ``K``; None without a pool.
    """

    classes: Tensor
    valid: Tensor
    pool: Tensor | None = None
    pool_valid: Tensor | None = None


@dataclass(frozen=True)
class SamplingContext:
    """What a draw may look at.

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

    def mask(self, scores: Tensor, first: int) -> None:
        """Minus infinity, in place, for what may not be drawn; ``scores`` are of the rows from ``first`` on."""
        if self.allowed is not None:
            self.allowed.keep(scores, first)
        else:
            self.forbidden.mask(scores, first)


def draw_rejected(config: NegativesConfig, situation: SamplingContext) -> RejectedItems:
    """Draw ``config.num_negatives`` rejected classes for every row."""
    count, generator = config.num_negatives, situation.generator
    situation = situation.limited(config)
    if config.strategy == "popularity":
        return RejectedItems(*_blind(situation, count, situation.counts.double().pow(config.power)))
    if config.strategy == "in-batch":
        rows = len(situation.targets)
        device = situation.targets.device
        places = torch.randint(len(situation.others), (rows, count), generator=generator, device=device)
        drawn = situation.others[places]
        return RejectedItems(drawn, situation.permits(drawn))
    if config.strategy == "disliked":
        assert situation.dislikes is not None
        drawn, valid = draw_members(situation.dislikes, count, generator)
        return RejectedItems(drawn, valid & situation.permits(drawn))
    if config.strategy == "uniform" or not config.ranked:
        return RejectedItems(*_blind(situation, count))
    pooled = _from_pool(config, situation)
    if config.strategy != "mixed":
        return pooled
    blind, valid = _blind(situation, count)
    dice = torch.rand(blind.shape, generator=generator, device=blind.device) < config.mix
    classes = torch.where(dice, pooled.classes, blind)
    return RejectedItems(classes, torch.where(dice, pooled.valid, valid), pooled.pool, pooled.pool_valid)


def _blind(situation: SamplingContext, count: int, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Draws that no score decides: evenly, or by weight (float64 ``[n]``)."""
    if situation.allowed is not None:
        return draw_members(situation.allowed, count, situation.generator, weights)
    if weights is not None:
        return draw_weighted(situation.forbidden, weights, count, situation.generator)
    return draw_uniform(situation.forbidden, count, situation.generator)


def _from_pool(config: NegativesConfig, situation: SamplingContext) -> RejectedItems:
    """Distinct draws from the best-scored allowed classes of each row."""
    wanted = config.num_negatives
    width = situation.forbidden.width
    hard = config.strategy == "hard"
    size = wanted if hard else width if config.pool_k == "all" else min(int(config.pool_k), width)
    values, pool = _best(situation, size)
    allowed = values > -torch.inf
    if hard:
        return RejectedItems(pool, allowed, pool, allowed)
    # The largest keys of a row: a uniform draw, or with Gumbel noise a draw by softmax, without replacement.
    draws = torch.rand(values.shape, generator=situation.generator, device=values.device)
    keys = (
        draws if not config.temperature else values / config.temperature - (-draws.clamp(1e-12, 1 - 1e-7).log()).log()
    )
    keys = keys.masked_fill(values == -torch.inf, -torch.inf)
    chosen = torch.topk(keys, wanted, dim=1)
    return RejectedItems(pool.gather(1, chosen.indices), chosen.values > -torch.inf, pool, allowed)


def _best(situation: SamplingContext, size: int) -> tuple[Tensor, Tensor]:
    """Scores and classes ``[P, size]`` of each row's best-scored allowed classes; a few rows are scored at a time."""
    rows, width = len(situation.targets), situation.forbidden.width
    step = max(1, _BLOCK_ELEMENTS // width)
    values, pools = [], []
    for first in range(0, max(rows, 1), step):
        scores = situation.scores(slice(first, first + step))
        situation.mask(scores, first)
        best = torch.topk(scores, size, dim=1)
        values.append(best.values.float())
        pools.append(best.indices)
    return torch.cat(values), torch.cat(pools)
