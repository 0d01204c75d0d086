"""How the rejected items of a ranker's alignment are drawn: the settings, and the draw."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from palate.config import Config
from palate.errors import PalateError
from palate.negatives import NEGATIVES
from palate.negatives.base import NegativeStrategy, RejectedItems, SamplingContext
from palate.registry import NameIn

_TWIN_SETTINGS = ("twin_source", "twin_cosine", "twin_history")


class NegativesConfig(Config):
    """How rejected items are drawn (``--set negatives.KEY=VALUE``).

    Attributes:
        strategy: ``uniform`` or ``popularity`` over the catalogue; ``in-batch``: other rows' targets; ``hard``: the
            best-scored items; ``top-k``: uniformly from the ``pool_k`` best-scored (RoDPO's stochastic negatives);
            ``mixed``: from that pool with probability ``mix``, else uniform; ``disliked``: what the user rated low; or
            another name of :data:`palate.negatives.NEGATIVES`.
        pool_k: size of the pool, or ``all`` for every item that may be drawn.
        num_negatives: rejected items per pair; from a pool of ``pool_k`` they are all different.
        temperature: draw inside the pool by ``softmax(score / temperature)`` instead of uniformly; 0 is uniformly.
        mix: see ``mixed``.
        power: ``popularity`` draws in proportion to the training count to this power.
        mask_future: leave out what the user takes later in training as well.
        precision: of the scores that rank the catalogue for a pool; bfloat16 is several times faster where the
            processor multiplies it natively, and blurs the edge of the pool.
        twins: ``out`` never rejects a near twin of the chosen item, ``only`` rejects nothing else (a row without one
            has no pair); ``any`` does not look at content.
        twin_source: whose neighbours are twins: ``lexical``, ``text``, ``image``, another feature store, or
            ``co-occurrence``.
        twin_cosine: the least cosine of twins.
        twin_history: twins of this many of the newest items of the history count as well.
    """

    strategy: Annotated[str, NameIn(NEGATIVES)] = "top-k"
    pool_k: int | Literal["all"] = 20
    num_negatives: int = Field(1, ge=1)
    temperature: float = Field(0.0, ge=0)
    mix: float = Field(0.5, ge=0, le=1)
    power: float = Field(1.0, ge=0)
    mask_future: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"
    twins: Literal["any", "out", "only"] = "any"
    twin_source: str | None = Field(None, min_length=1)
    twin_cosine: float = Field(0.5, gt=0, le=1)
    twin_history: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if isinstance(self.pool_k, int) and self.pool_k < 1:
            raise ValueError("pool_k must be at least 1, or 'all'")
        size, _ = self._pool()
        if size is not None and self.num_negatives > size:
            raise ValueError(f"num_negatives is {self.num_negatives}, more than the pool of {size}")
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

    @cached_property
    def chosen(self) -> NegativeStrategy:
        """The strategy."""
        strategy: NegativeStrategy = NEGATIVES[self.strategy]()
        return strategy

    @property
    def content_aware(self) -> bool:
        """Whether twins are treated apart."""
        return self.twins != "any"

    def _pool(self) -> tuple[int | None, str]:
        """The least number of items that a pool needs, or None without a pool; and the option that says so."""
        strategy = self.chosen
        if strategy.source != "scores":
            return None, ""
        if strategy.takes_whole_pool or self.pool_k == "all":
            return self.num_negatives, "--num-negatives"
        return self.pool_k, "--pool-k"

    def check_catalogue(self, classes: int) -> None:
        """Refuse a pool that no row could ever fill: of ``classes`` trained items a target and an input are left out.

        A row whose history leaves fewer than ``pool_k`` items has a smaller pool.
        """
        size, option = self._pool()
        if size is not None and size > classes - 2:
            raise PalateError(
                f"a pool of {size} is larger than the catalogue allows: {classes} items were trained on",
                "Lower --num-negatives."
                if option == "--num-negatives"
                else f"Set --pool-k to at most {max(1, classes - 2)}, or to all.",
            )


def draw_rejected(config: NegativesConfig, context: SamplingContext) -> RejectedItems:
    """Draw ``config.num_negatives`` rejected classes for every row."""
    return config.chosen.draw(context.limited(config), config)
