"""Settings of an alignment of a language model: the pairs, the adapter, the trainer."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from palate.config import Config
from palate.mllm.finetune.config import LoraConfig, SFTTrainerConfig
from palate.negatives import NEGATIVES
from palate.negatives.base import NegativeStrategy
from palate.registry import NameIn

Kind = Literal["item", "answer"]


class PairsConfig(Config):
    """Which pairs are learnt from (``--set pairs.KEY=VALUE``).

    Attributes:
        kind: ``item``: the target against another item, by their scores ``s = logit_yes - logit_no`` (two prompts);
            ``answer``: the right answer to a prompt against the wrong one, for every item that is shown (HaNoRec's own
            pairs). A run of the task ``choose`` has one kind only: the target's letter against others of its list.
        users: a sample of so many users; None takes those that the run learnt from.
        users_seed: of that sample; None: the run's.
        cutoffs: the last so many training positions of each user; None: the run's.
        negatives: how rejected items are chosen. ``uniform`` and ``popularity``: from the catalogue, without what the
            user had in training. ``top-k``: uniformly from a pool (RoDPO's stochastic negatives); ``hard``: the best of
            the pool. ``disliked``: what the user rated low; positions of users without such items are left out.
        num_negatives: rejected items a position.
        pool_k: size of the pool.
        depth: ``None``: the pool is the retriever's ``pool_k`` best items. A number of at least ``pool_k``: the policy
            scores so many of the retriever's best, and its own ``pool_k`` best are the pool: each time it is refreshed.
        mask_future: a pool leaves out what the user takes later in training, as well as the history and the target.
        choices: ``choose``: how many candidates a list has; None: as the run was trained.
        refresh_steps: draw (and where ``depth`` says so, score) anew every so many steps; 0: never.
    """

    kind: Kind = "item"
    users: int | None = Field(None, ge=1)
    users_seed: int | None = Field(None, ge=0)
    cutoffs: int | None = Field(None, ge=1)
    negatives: Annotated[str, NameIn(NEGATIVES, lambda one: one.for_cases)] = "uniform"
    num_negatives: int = Field(1, ge=1)
    pool_k: int = Field(20, ge=1)
    depth: int | None = Field(None, ge=1)
    mask_future: bool = False
    choices: int | None = Field(None, ge=2, le=26)
    refresh_steps: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.pooled:
            if self.depth is not None and self.depth < self.pool_k:
                raise ValueError(f"depth is {self.depth}, less than the pool of {self.pool_k} that is taken from it")
            if self.num_negatives > self.pool_k:
                raise ValueError(f"num_negatives is {self.num_negatives}, more than the pool of {self.pool_k}")
        return self

    @cached_property
    def strategy(self) -> NegativeStrategy:
        """How rejected items are chosen."""
        strategy: NegativeStrategy = NEGATIVES[self.negatives]()
        return strategy

    @property
    def pooled(self) -> bool:
        """Whether rejected items come from a pool."""
        return self.strategy.source == "scores"


class AlignLoraConfig(LoraConfig):
    """The fresh adapter, by default as HaNoRec's authors have it (``--set lora.KEY=VALUE``)."""

    alpha: float = Field(32, gt=0)


class AlignTrainerConfig(SFTTrainerConfig):
    """How it is trained (``--set trainer.KEY=VALUE``), as for fine-tuning, but ``batch_size`` counts positions.

    Attributes:
        watch_every: numbers that cost another forward are made at every so many.
    """

    batch_size: int = Field(4, ge=1)
    accumulation: int = Field(8, ge=1)
    learning_rate: float = Field(1e-4, gt=0)
    watch_every: int = Field(10, ge=1)
