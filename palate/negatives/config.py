"""How the rejected items of a ranker's alignment are drawn: the settings, and the draw."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from palate.config import Config
from palate.errors import PalateError
from palate.negatives import NEGATIVES
from palate.negatives.base import NegativeStrategy, RejectedItems, SamplingContext, unread_settings
from palate.registry import NameIn

_STRATEGY_SETTINGS = ("pool_k", "temperature", "mix", "power", "precision")
_SHOWN_SETTINGS = ("shown", "shown_fallback", "shown_share")
_TWIN_SETTINGS = ("twin_source", "twin_cosine", "twin_history")


class NegativesConfig(Config):
    """How rejected items are drawn (``--set negatives.KEY=VALUE``)."""

    strategy: Annotated[str, NameIn(NEGATIVES)] = Field(
        "top-k",
        description="Where rejected items come from. uniform, popularity: the catalogue; in-batch: other rows' "
        "targets; hard: the best-scored items; top-k: uniformly from the pool_k best-scored (RoDPO's stochastic "
        "negatives); mixed: from that pool with probability mix, else uniformly; disliked: what the user rated low; "
        "shown: what the user was shown and did not take; or a plug-in's name.",
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
    shown: Literal["all", "above"] = Field(
        "all",
        description="Of what was shown and not taken, all, or only what was shown above an item of its request that "
        "was taken.",
    )
    shown_fallback: Literal["top-k", "hard", "mixed", "uniform", "popularity", "none"] = Field(
        "top-k", description="The strategy of rows whose user was shown nothing; with none they have no pair."
    )
    shown_share: float = Field(
        1.0, gt=0, le=1, description="Of the draws of shown; the others come from shown_fallback."
    )
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
        size, _ = self._pool()
        if size is not None and self.num_negatives > size:
            raise ValueError(f"num_negatives is {self.num_negatives}, more than the pool of {size}")
        if self.content_aware and self.twin_source is None:
            raise ValueError(f"twins is '{self.twins}' without a twin_source: name lexical, text, image or the like")
        idle = [key for key in _TWIN_SETTINGS if key in self.model_fields_set]
        if idle and not self.content_aware:
            raise ValueError(f"{idle[0]} does nothing without twins = 'out' or 'only'")
        idle = [key for key in _SHOWN_SETTINGS if key in self.model_fields_set]
        if idle and self.strategy != "shown":
            raise ValueError(f"{idle[0]} does nothing without the strategy 'shown' (--negatives shown)")
        return self

    @model_serializer(mode="wrap")
    def _plain(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the settings that nothing looks at: keys of runs from before stay what they were."""
        values: dict[str, Any] = handler(self)
        idle: tuple[str, ...] = () if self.content_aware else ("twins", *_TWIN_SETTINGS)
        idle += () if self.strategy == "shown" else _SHOWN_SETTINGS
        return {key: value for key, value in values.items() if key not in idle}

    @cached_property
    def chosen(self) -> NegativeStrategy:
        """The strategy."""
        return NEGATIVES[self.strategy]()

    @property
    def _fallback(self) -> NegativeStrategy | None:
        """What ``shown`` draws from where nothing was shown."""
        if self.chosen.source != "impressions" or self.shown_fallback == "none":
            return None
        return NEGATIVES[self.shown_fallback]()

    def unread(self) -> dict[str, str]:
        strategies = [self.chosen, *([self._fallback] if self._fallback else [])]
        return unread_settings(_STRATEGY_SETTINGS, *strategies)

    @property
    def content_aware(self) -> bool:
        """Whether twins are treated apart."""
        return self.twins != "any"

    def _pool(self) -> tuple[int | None, str]:
        """The least number of items that a pool needs, or None without a pool; and the option that says so."""
        strategy = self._fallback or self.chosen
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
