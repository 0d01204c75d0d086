"""Settings of pretraining."""

from __future__ import annotations

from pydantic import Field

from palate.config import Config


class WorldsConfig(Config):
    """Which generated catalogues are learnt from (``--set worlds.KEY=VALUE``)."""

    shops: int = Field(48, ge=1, description="Drawn shops with pictures.")
    catalogues: int = Field(20, ge=0, description="Catalogues in words: films, songs, dishes, books ...")
    items: int = Field(300, ge=24, description="Items in each.")
    people: int = Field(100, ge=10, description="People in each.")
    first_seed: int = Field(0, ge=0, description="Worlds are drawn with this seed and those that follow.")


class TasksConfig(Config):
    """How often each task comes (``--set tasks.KEY=VALUE``): shares of the rows."""

    see: float = Field(0.2, ge=0)
    write: float = Field(0.2, ge=0)
    match: float = Field(0.3, ge=0)
    recommend: float = Field(0.3, ge=0)


class PretrainTrainerConfig(Config):
    """How the adapter and the projector are trained (``--set trainer.KEY=VALUE``)."""

    steps: int = Field(1200, ge=1, description="Steps of the optimiser.")
    rows: int = Field(4, ge=1, description="Rows per step: people with their candidates, or several pictures.")
    learning_rate: float = Field(5e-4, gt=0, description="Of the adapter, at its peak.")
    projector_learning_rate: float = Field(1e-3, gt=0, description="Of the projector, at its peak.")
    warmup_ratio: float = Field(0.05, ge=0, lt=1, description="Share of the steps in which learning rates rise.")
    weight_decay: float = Field(0.0, ge=0)
    clip_norm: float = Field(1.0, gt=0, description="Largest norm of the gradient.")
    average: float = Field(
        0.99, ge=0, lt=1, description="The weights that are saved are a moving average with this decay per step."
    )
    validate_every: int = Field(100, ge=1, description="Steps between measurements on worlds never learnt from.")
    checkpoint_minutes: float = Field(5.0, gt=0, description="Minutes between checkpoints.")
    r: int = Field(8, ge=1, description="Rank of the adapter, on every linear layer of the language model.")
    alpha: float = Field(16, gt=0, description="The adapter's output is multiplied by alpha / r.")


class PretrainConfig(Config):
    """All of it."""

    model: str = Field("embedded-small-raw", description="The model that is taught.")
    start: str | None = Field(
        None, description="Folder of an earlier run of the same model and rank, whose weights this one begins with."
    )
    worlds: WorldsConfig = WorldsConfig()
    tasks: TasksConfig = TasksConfig()
    trainer: PretrainTrainerConfig = PretrainTrainerConfig()
