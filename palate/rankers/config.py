"""The settings that all neural rankers share, and those of the ones that score by a product of vectors."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from palate.config import Config
from palate.features.fields import FIELDS
from palate.rankers.feature import Missing
from palate.rankers.fusions import FUSIONS
from palate.registry import NameIn


class TrainedConfig(Config):
    """Hyper-parameters that every ranker has that is trained by gradient.

    Attributes:
        dim: width of the hidden states and item vectors.
        max_length: how many of the newest items of a history are read.
        dropout: on the embedded inputs and inside the encoder.
        modalities: which of ``id``, ``text``, ``image`` (or any feature store's name) and ``fields`` an item is made
            of.
    """

    dim: int = Field(64, ge=1)
    max_length: int = Field(50, ge=1)
    dropout: float = Field(0.5, ge=0, lt=1)
    modalities: tuple[str, ...] = ("id",)

    @property
    def reads_times(self) -> bool:
        """Whether the ranker reads when the items of a history were taken."""
        return False

    @property
    def needs_times(self) -> bool:
        """Whether its settings mean nothing where the log has no times."""
        return False

    @model_validator(mode="after")
    def _check_modalities(self) -> Self:
        if not self.modalities or len(set(self.modalities)) != len(self.modalities):
            raise ValueError("modalities must be different names, and at least one")
        return self


class SequentialConfig(TrainedConfig):
    """Hyper-parameters of every ranker that scores an item by a product of vectors.

    Attributes:
        fields: columns of the catalogue that the modality ``fields`` reads; by default all whose values items share.
        missing: what stands for an absent text or picture.
        fusion: how the modalities become one vector, a name of :data:`palate.rankers.fusions.FUSIONS`.
        id_dropout: share of items whose id is hidden in a training step, which trains the shared vector of cold items.
        feature_dropout: dropout on the frozen features.
        whiten: principal components of each feature matrix to retain, scaled to variance one; 0 leaves it as it is.
        token_dropout: share of the history's items that a training step hides from the encoder.
        repeat_bias: learn what to add to the score of an item of the history, by how long ago it was taken: in many
            logs people hardly ever take an item twice, in others (music, groceries) they mostly do, and a product of
            tied vectors can express neither.
        similarity: ``dot``, or ``cosine`` divided by ``temperature``.
    """

    fields: tuple[str, ...] | None = Field(None, min_length=1)
    missing: Missing = "learned"
    fusion: Annotated[str, NameIn(FUSIONS)] = "sum"
    id_dropout: float = Field(0.0, ge=0, lt=1)
    feature_dropout: float = Field(0.0, ge=0, lt=1)
    whiten: int = Field(0, ge=0)
    token_dropout: float = Field(0.0, ge=0, lt=1)
    repeat_bias: bool = False
    similarity: Literal["dot", "cosine"] = "dot"
    temperature: float = Field(0.07, gt=0)

    @model_serializer(mode="wrap")
    def _without_fields(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A setting of one modality is no part of the others' runs."""
        values: dict[str, Any] = handler(self)
        return values if self.fields is not None else {name: one for name, one in values.items() if name != "fields"}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.fields is not None and FIELDS not in self.modalities:
            raise ValueError("fields are named, and 'fields' is not one of the modalities (--modalities id,fields)")
        if self.fields is not None and len(set(self.fields)) != len(self.fields):
            raise ValueError("fields must be different names")
        return self
