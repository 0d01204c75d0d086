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

    ``users_seed`` is apart from the seed of training: seeds are compared on the same users, whose summaries serve all
    of them.
    """

    users: int | None = Field(None, ge=1, description="Learn from a sample of N users.")
    users_seed: int = Field(0, ge=0, description="Seed of that sample.")
    cutoffs: int = Field(3, ge=1, description="The last N training positions of each user.")
    negatives: Annotated[str, NameIn(NEGATIVES, is_weighted)] = Field(
        "uniform",
        description="How items that were not the answer are drawn: uniform, popularity; or a plug-in with weights.",
    )
    negatives_per_positive: int = Field(
        1, ge=1, description="With yes-no: questions answered No for each answered Yes."
    )
    choices: int = Field(10, ge=2, le=26, description="With choose: candidates in a list.")
    validate_users: int = Field(100, ge=1, description="N of these users have a validation case.")
    validate_negatives: int = Field(
        4, ge=1, description="With yes-no: candidates of a validation case besides the target."
    )


class LoraConfig(Config):
    """The adapter: LoRA (arXiv 2106.09685) on every linear layer of the language model (``--set lora.KEY=VALUE``).

    The vision tower is never trained.
    """

    r: int = Field(8, ge=1, description="Rank of the adapter.")
    alpha: float = Field(16, gt=0, description="The adapter's output is multiplied by alpha / rank.")
    dropout: float = Field(0.05, ge=0, lt=1, description="Dropout of the adapter's input.")
    projector: bool = Field(False, description="Adapters on the layers between pictures and language as well.")


class SFTTrainerConfig(Config):
    """How an adapter is trained by AdamW, in fine-tuning and in alignment."""

    epochs: int = Field(1, ge=1, description="Passes over the examples.")
    batch_size: int = Field(8, ge=1, description="Examples that go through the model at a time, on each device.")
    accumulation: int = Field(1, ge=1, description="Batches per step of the optimiser.")
    learning_rate: float = Field(2e-4, gt=0, description="Learning rate at its peak.")
    weight_decay: float = Field(0.0, ge=0)
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="The learning rate after the warm-up."
    )
    warmup_ratio: float = Field(0.05, ge=0, lt=1, description="Share of the steps in which the learning rate rises.")
    clip_norm: float = Field(1.0, ge=0, description="Largest norm of the gradient; 0 is off.")
    gradient_checkpointing: bool = Field(
        False, description="Compute activations twice rather than store them: less memory for a third more time."
    )
    fsdp: bool = Field(
        False, description="Divide the model's weights over the workers (FSDP2), for models that one GPU does not hold."
    )
    validations_per_epoch: int = Field(
        4, ge=1, description="Validations after equal parts of each epoch; the first one is before training."
    )
    keep: Literal["best", "last"] = Field("best", description="The adapter of the best validation, or of the last.")
    checkpoint_minutes: float = Field(
        10.0, gt=0, description="Checkpoints at each validation and, in between, every N minutes."
    )


class SFTConfig(SFTTrainerConfig):
    """How fine-tuning is done (``--set trainer.KEY=VALUE``).

    ``loss``: ``tokens`` is the answer's tokens among all tokens there are (the paper's); ``options`` the answer among
    those that are allowed, by its first token, and the prompts of a case are read together. ``batch_size`` then counts
    whole cases, at least one.
    """

    loss: Literal["tokens", "options"] = Field(
        "tokens", description="Learn the answer's tokens, or which of those allowed it is."
    )
    workers: int = Field(0, ge=0, description="Processes that prepare batches ahead (pictures decoded); 0: this one.")
