"""How a ranker is trained: optimiser, schedule, validation, checkpoints."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from palate.config import Config


class TrainerConfig(Config):
    """Settings of the training loop (``[train.trainer]`` in a recipe, ``--set trainer.KEY=VALUE``).

    Attributes:
        epochs: at most so many passes over the training targets.
        batch_size: sequences a step (all their positions are targets).
        learning_rate: of AdamW, at its peak.
        weight_decay: of AdamW, on matrices (not on biases, norms and embeddings unless ``decay_embeddings``).
        warmup_steps: linear warm-up of the learning rate.
        schedule: what the learning rate does after the warm-up, over ``epochs``.
        clip_norm: largest norm of the gradient; 0 is off.
        ema: decay a step of an exponential moving average of the weights, which then is what is validated and kept;
            0 is off.
        recency_half_life: a target counts half as much for every so many later interactions of its user; 0 counts all
            alike. What users did last is closest to what will be asked.
        metric: validation metric that chooses the best epoch.
        keep: the weights of the ``best`` validation, or of the ``last`` one: for comparisons of equal length.
        patience: stop after so many validations without improvement; 0 never stops early.
        validate_every: epochs between validations.
        validations_per_epoch: more than 1 validates inside an epoch, after equal parts of it; the best part is kept.
        validate_users: at most so many users (a seeded sample) are validated; 0 means all.
        exclude_seen: whether validation leaves out the history (the product protocol) or not (the peer protocol).
        precision: automatic mixed precision of the encoder, by accelerate.
        checkpoint_minutes: a checkpoint is written after each epoch and, in long ones, every so many minutes.
        device: ``auto`` takes a GPU where there is one.
        tensorboard: write TensorBoard events where the package is installed.
    """

    epochs: int = Field(100, ge=1)
    batch_size: int = Field(256, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    decay_embeddings: bool = False
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.98)
    warmup_steps: int = Field(0, ge=0)
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    clip_norm: float = Field(0.0, ge=0)
    ema: float = Field(0.0, ge=0, lt=1)
    recency_half_life: float = Field(0.0, ge=0)
    metric: str = "NDCG@10"
    keep: Literal["best", "last"] = "best"
    patience: int = Field(10, ge=0)
    validate_every: int = Field(1, ge=1)
    validations_per_epoch: int = Field(1, ge=1)
    validate_users: int = Field(0, ge=0)
    exclude_seen: bool = True
    precision: Literal["no", "bf16", "fp16"] = "no"
    checkpoint_minutes: float = Field(10.0, gt=0)
    device: str = "auto"
    tensorboard: bool = True


class NeighboursConfig(Config):
    """What the neighbours of the newest items add to the scores (``--set neighbours.KEY=VALUE``).

    Attributes:
        sources: ``co-occurrence`` and names of feature stores (``lexical``, ``text``, ``image`` ...); none: no such
            part.
        lags: how many of the newest items speak, each with weights of its own.
        keep: nearest items of each item, by each source.
        users: at most this many validation users fit the weights.
    """

    sources: tuple[str, ...] = ()
    lags: int = Field(5, ge=1, le=50)
    keep: int = Field(100, ge=1)
    users: int = Field(10_000, ge=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.sources)) != len(self.sources):
            raise ValueError("sources must be different names")
        return self
