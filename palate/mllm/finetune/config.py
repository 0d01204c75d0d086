"""Settings of supervised fine-tuning: the examples, the adapter, the trainer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from palate.config import Config
from palate.negatives import NEGATIVES
from palate.negatives.base import is_weighted
from palate.registry import NameIn


class ExamplesConfig(Config):
    """Which examples are learnt from (``--set examples.KEY=VALUE``).

    Attributes:
        users: size of a sample of users; None takes all.
        users_seed: of that sample, apart from the seed of training: seeds are compared on the same users, whose
            summaries serve all of them.
        cutoffs: how many of the last training positions of each user.
        negatives: how the items are drawn that were not the answer: ``uniform``, ``popularity`` or another strategy
            with weights.
        negatives_per_positive: ``yes-no``: prompts whose answer is No for each whose answer is Yes.
        choices: ``choose``: how many candidates a list has.
        validate_users: how many of these users have a validation case.
        validate_negatives: ``yes-no``: candidates of a validation case besides the target.
    """

    users: int | None = Field(None, ge=1)
    users_seed: int = Field(0, ge=0)
    cutoffs: int = Field(3, ge=1)
    negatives: Annotated[str, NameIn(NEGATIVES, is_weighted)] = "uniform"
    negatives_per_positive: int = Field(1, ge=1)
    choices: int = Field(10, ge=2, le=26)
    validate_users: int = Field(100, ge=1)
    validate_negatives: int = Field(4, ge=1)


class LoraConfig(Config):
    """The adapter: LoRA (arXiv 2106.09685) on every linear layer of the language model (``--set lora.KEY=VALUE``).

    Attributes:
        r: rank.
        alpha: the adapter's output is multiplied by ``alpha / r``.
        dropout: of the adapter's input.
        projector: adapters on the layers between pictures and language as well. The vision tower is never trained.
    """

    r: int = Field(8, ge=1)
    alpha: float = Field(16, gt=0)
    dropout: float = Field(0.05, ge=0, lt=1)
    projector: bool = False


class SFTTrainerConfig(Config):
    """How an adapter is trained, in fine-tuning and in alignment.

    Attributes:
        epochs: passes over the examples.
        batch_size: examples that go through the model at a time, on each device.
        accumulation: batches per step of the optimiser.
        learning_rate: of AdamW, at its peak.
        weight_decay: of AdamW.
        schedule: of the learning rate after the warm-up.
        warmup_ratio: share of the steps in which the learning rate rises.
        clip_norm: largest norm of the gradient; 0 is off.
        gradient_checkpointing: compute activations twice rather than store them: less memory, a third more time.
        validations_per_epoch: after equal parts of each epoch; the first one is before training.
        keep: the adapter of the ``best`` validation, or of the ``last``.
        checkpoint_minutes: checkpoints are written at each validation and, in between, every N minutes.
    """

    epochs: int = Field(1, ge=1)
    batch_size: int = Field(8, ge=1)
    accumulation: int = Field(1, ge=1)
    learning_rate: float = Field(2e-4, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_ratio: float = Field(0.05, ge=0, lt=1)
    clip_norm: float = Field(1.0, ge=0)
    gradient_checkpointing: bool = False
    validations_per_epoch: int = Field(4, ge=1)
    keep: Literal["best", "last"] = "best"
    checkpoint_minutes: float = Field(10.0, gt=0)


class SFTConfig(SFTTrainerConfig):
    """How fine-tuning is done (``--set trainer.KEY=VALUE``).

    Attributes:
        loss: ``tokens``: the answer's tokens among all tokens there are (the paper's); ``options``: the answer among
            those that are allowed, by its first token, and the prompts of a case are read together. ``batch_size``
            then counts whole cases, at least one.
        workers: processes that prepare batches ahead (pictures decoded); 0: this one.
    """

    loss: Literal["tokens", "options"] = "tokens"
    workers: int = Field(0, ge=0)
