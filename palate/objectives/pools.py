"""Where the rejected item of a pair comes from: a blind draw, the batch, the model's own best, or dislikes.

All work on *classes*, the items that were trained on (an item without a training interaction is never pushed away),
and all leave out the same items: the target and the history up to it (and, on request, what the user takes later in
training). Validation and test items are never left out: the model may not know them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from palate.config import Config
from palate.errors import PalateError
from palate.objectives.forbidden import RowSets, draw_uniform, draw_weighted

# Scores held at once while pools are made.
_BLOCK_ELEMENTS = 8_000_000

Strategy = Literal["uniform", "popularity", "in-batch", "hard", "top-k", "mixed", "disliked"]


class NegativesConfig(Config):
    """How rejected items are drawn (``--set negatives.KEY=VALUE``).

    Attributes:
        strategy: ``uniform`` or ``popularity`` over the catalogue; ``in-batch``: other rows' targets; ``hard``: the
            best-scored items; ``top-k``: uniformly from the ``pool_k`` best-scored (RoDPO's stochastic negatives);
            ``mixed``: from that pool with probability ``mix``, else uniform; ``disliked``: what the user rated low.
        pool_k: size of the pool, or ``all`` for every item that may be drawn.
        num_negatives: rejected items a pair; from a pool of ``pool_k`` they are all different.
        temperature: draw inside the pool by ``softmax(score / temperature)`` instead of uniformly; 0 is uniformly.
        mix: see ``mixed``.
        power: ``popularity`` draws in proportion to the training count to this power.
        mask_future: leave out what the user takes later in training as well.
        precision: of the scores that rank the catalogue for a pool; bfloat16 is several times faster where the
            processor multiplies it natively, and blurs the edge of the pool.
    """

    strategy: Strategy = "top-k"
    pool_k: int | Literal["all"] = 20
    num_negatives: int = Field(1, ge=1)
    temperature: float = Field(0.0, ge=0)
    mix: float = Field(0.5, ge=0, le=1)
    power: float = Field(1.0, ge=0)
    mask_future: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"

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
        return self

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
class Rejected:
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
class Situation:
    """What a draw may look at.

    Attributes:
        targets: int64 ``[P]``, classes.
        forbidden: of each row.
        counts: float ``[n]``, training interactions of each class.
        scores: makes the scores ``[rows, n]`` of all classes for a slice of rows; the result may be overwritten.
        others: int64 ``[T]``, all the step's targets, classes.
        dislikes: what each row's user rated low, or None.
        generator: on the device of ``targets``.
    """

    targets: Tensor
    forbidden: RowSets
    counts: Tensor
    scores: Callable[[slice], Tensor]
    others: Tensor
    dislikes: RowSets | None = None
    generator: torch.Generator | None = None


def draw_rejected(config: NegativesConfig, situation: Situation) -> Rejected:
    """Draw ``config.num_negatives`` rejected classes for every row."""
    wanted, generator = config.num_negatives, situation.generator
    forbidden = situation.forbidden
    if config.strategy == "popularity":
        weights = situation.counts.double().pow(config.power)
        return Rejected(*draw_weighted(forbidden, weights, wanted, generator))
    if config.strategy == "in-batch":
        rows = len(situation.targets)
        device = situation.targets.device
        places = torch.randint(len(situation.others), (rows, wanted), generator=generator, device=device)
        drawn = situation.others[places]
        return Rejected(drawn, ~forbidden.has(drawn))
    if config.strategy == "disliked":
        return _from_sets(situation.dislikes, wanted, situation)
    if config.strategy == "uniform" or not config.ranked:
        return Rejected(*draw_uniform(forbidden, wanted, generator))
    pooled = _from_pool(config, situation)
    if config.strategy != "mixed":
        return pooled
    blind, valid = draw_uniform(forbidden, wanted, generator)
    dice = torch.rand(blind.shape, generator=generator, device=blind.device) < config.mix
    classes = torch.where(dice, pooled.classes, blind)
    return Rejected(classes, torch.where(dice, pooled.valid, valid), pooled.pool, pooled.pool_valid)


def _from_pool(config: NegativesConfig, situation: Situation) -> Rejected:
    """Distinct draws from the best-scored allowed classes of each row."""
    wanted = config.num_negatives
    width = situation.forbidden.width
    hard = config.strategy == "hard"
    size = wanted if hard else width if config.pool_k == "all" else min(int(config.pool_k), width)
    values, pool = _best(situation, size)
    allowed = values > -torch.inf
    if hard:
        return Rejected(pool, allowed, pool, allowed)
    # The largest keys of a row: a uniform draw, or with Gumbel noise a draw by softmax, without replacement.
    draws = torch.rand(values.shape, generator=situation.generator, device=values.device)
    keys = (
        draws if not config.temperature else values / config.temperature - (-draws.clamp(1e-12, 1 - 1e-7).log()).log()
    )
    keys = keys.masked_fill(values == -torch.inf, -torch.inf)
    chosen = torch.topk(keys, wanted, dim=1)
    return Rejected(pool.gather(1, chosen.indices), chosen.values > -torch.inf, pool, allowed)


def _best(situation: Situation, size: int) -> tuple[Tensor, Tensor]:
    """Scores and classes ``[P, size]`` of each row's best-scored allowed classes; a few rows are scored at a time."""
    rows, width = len(situation.targets), situation.forbidden.width
    step = max(1, _BLOCK_ELEMENTS // width)
    values, pools = [], []
    for first in range(0, max(rows, 1), step):
        scores = situation.scores(slice(first, first + step))
        situation.forbidden.mask(scores, first)
        best = torch.topk(scores, size, dim=1)
        values.append(best.values.float())
        pools.append(best.indices)
    return torch.cat(values), torch.cat(pools)


def _from_sets(sets: RowSets | None, wanted: int, situation: Situation) -> Rejected:
    """A member of each row's set, uniformly and with replacement; rows with an empty set have no pair."""
    assert sets is not None
    rows = len(situation.targets)
    device = situation.targets.device
    share = torch.rand(rows, wanted, generator=situation.generator, device=device, dtype=torch.float64)
    sizes = sets.sizes.unsqueeze(1)
    if not len(sets.keys):
        return Rejected(torch.zeros(rows, wanted, dtype=torch.long, device=device), sizes.expand(-1, wanted) > 0)
    place = sets.starts[:-1].unsqueeze(1) + (share * sizes).long()
    drawn = sets.classes[place.clamp_max(len(sets.keys) - 1)]
    return Rejected(drawn, (sizes > 0) & ~situation.forbidden.has(drawn))
