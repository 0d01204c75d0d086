"""How a ranker is trained: optimiser, schedule, validation, checkpoints."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from palate.config import Config


class TrainerConfig(Config):
    """Settings of the training loop (``[train.trainer]`` in a recipe, ``--set trainer.KEY=VALUE``)."""

    epochs: int = Field(100, ge=1, description="At most N passes over the training targets.")
    batch_size: int = Field(
        256, ge=1, description="Sequences per step, of all workers together; all their positions are targets."
    )
    learning_rate: float = Field(1e-3, gt=0, description="Of AdamW, at its peak.")
    weight_decay: float = Field(
        0.0, ge=0, description="Of AdamW, on matrices: not on biases, norms and (see decay_embeddings) embeddings."
    )
    decay_embeddings: bool = Field(False, description="Whether embeddings decay like other matrices.")
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Field(
        (0.9, 0.98), description="Of AdamW."
    )
    warmup_steps: int = Field(0, ge=0, description="Linear warm-up of the learning rate.")
    schedule: Literal["constant", "cosine", "linear"] = Field(
        "constant", description="What the learning rate does after the warm-up, over all epochs."
    )
    clip_norm: float = Field(0.0, ge=0, description="Largest norm of the gradient; 0 is off.")
    ema: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Decay per step of an exponential moving average of the weights, which then is what is validated "
        "and kept; 0 is off.",
    )
    recency_half_life: float = Field(
        0.0,
        ge=0,
        description="A target counts half as much for every N later interactions of its user: what users did last is "
        "closest to what will be queried. 0 counts all alike.",
    )
    metric: str = Field("NDCG@10", description="Validation metric that chooses the best epoch.")
    keep: Literal["best", "last"] = Field(
        "best", description="The weights of the best validation, or of the last: for comparisons of equal length."
    )
    patience: int = Field(10, ge=0, description="Stop after N validations without improvement; 0 never stops early.")
    validate_every: int = Field(
        1, ge=1, description="Epochs between validations; more than 1 needs validations_per_epoch = 1."
    )
    validations_per_epoch: int = Field(
        1, ge=1, description="More than 1 validates inside an epoch, after equal parts of it; the best part is kept."
    )
    validate_users: int = Field(0, ge=0, description="At most N users (a seeded sample) are validated; 0: all.")
    exclude_seen: bool = Field(
        True, description="Whether validation leaves out the history (the product protocol) or not (the peer protocol)."
    )
    precision: Literal["no", "bf16", "fp16"] = Field(
        "no", description="Automatic mixed precision of the encoder, by accelerate."
    )
    item_rows: Literal["auto", "always", "never"] = Field(
        "auto",
        description="Whether a step with drawn negatives makes and updates the items that it reads (rows) or all of "
        "them; auto: rows from 50,000 items on, if a step reads less than a fifth of them. Rows get the updates of "
        "AdamW on the whole table, up to rounding.",
    )
    item_table: Literal["dense", "sharded"] = Field(
        "dense",
        description="Whether each of several workers keeps the whole table of ids (dense), or a share of its rows with "
        "what AdamW keeps of them (sharded): for catalogues whose table is too large for one.",
    )
    checkpoint_minutes: float = Field(
        10.0, gt=0, description="A checkpoint is written after each epoch and, in long ones, every N minutes."
    )
    stream: bool = Field(
        False,
        description="Read training sequences from shards on disk instead of holding them in memory: for logs that are "
        "larger. With validate_users, so that not every history is read for validation.",
    )
    stream_buffer: int = Field(
        32_000_000,
        ge=1,
        description="Interactions in memory at a time where stream is set; the windows among them are shuffled.",
    )
    device: str = Field("auto", description="auto (a GPU where there is one), cpu or cuda.")
    tensorboard: bool = Field(True, description="Write TensorBoard events where the package is installed.")

    def unread(self) -> dict[str, str]:
        found = {} if self.stream else {"stream_buffer": "stream"}
        if self.validate_every > 1 and self.validations_per_epoch > 1:
            found["validate_every"] = "validations_per_epoch 1"
        return found

    @model_serializer(mode="wrap")
    def _without_usual_rows(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Settings of runs from before there was a choice stay what they were."""
        values: dict[str, Any] = handler(self)
        usual = {"item_rows": "auto", "item_table": "dense"}
        return {name: one for name, one in values.items() if usual.get(name) != one}


class NeighboursConfig(Config):
    """What the neighbours of the newest items add to the scores (``--set neighbours.KEY=VALUE``)."""

    sources: tuple[str, ...] = Field(
        (), description="co-occurrence and names of feature stores (lexical, text, image ...); none: no such part."
    )
    lags: int = Field(5, ge=1, le=50, description="How many of the newest items add, each with weights of its own.")
    keep: int = Field(100, ge=1, description="Nearest items of each item, by each source.")
    users: int = Field(10_000, ge=1, description="At most N validation users fit the weights.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.sources)) != len(self.sources):
            raise ValueError("sources must be different names")
        return self
