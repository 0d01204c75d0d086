"""The settings of TIGER."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from palate.features.fields import FIELDS
from palate.rankers.config import TrainedConfig


class TIGERConfig(TrainedConfig):
    """Hyper-parameters of :class:`palate.rankers.tiger.ranker.TIGER`.

    Attributes:
        modalities: feature stores that the codes are made of.
        layers: transformer blocks.
        heads: attention heads; must divide ``dim``.
        hidden: width of the feed-forward layers, as a multiple of ``dim``.
        levels: codes of an item that are made of its content; one more tells apart the items that share all of them.
        codebook: codes that a level has.
        whiten: principal components of each feature store that are quantised.
        codes_seed: of the k-means; apart from the training's, so that runs of several seeds have the same codes.
        softmax: what a code of the target competes with in training: those that continue its prefix in the catalogue
            (``catalogue``, as in the search), those of them that lead to items with training interactions
            (``trained``), or all of its level (``codebook``, as in the paper).
        beam: prefixes that the search of the whole catalogue keeps at each level.
    """

    dim: int = Field(64, ge=1)
    max_length: int = Field(20, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    modalities: tuple[str, ...] = ("text",)
    layers: int = Field(2, ge=1)
    heads: int = Field(2, ge=1)
    hidden: float = Field(4, gt=0)
    levels: int = Field(3, ge=1, le=32)
    codebook: int = Field(256, ge=2)
    whiten: int = Field(128, ge=1)
    codes_seed: int = Field(0, ge=0, lt=2**31)
    softmax: Literal["catalogue", "trained", "codebook"] = "catalogue"
    beam: int = Field(50, ge=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("id", FIELDS):
            if name in self.modalities:
                raise ValueError(
                    f"'{name}' is no content that codes are made of: name feature stores (--modalities text)"
                )
        if self.dim % self.heads:
            raise ValueError(f"{self.heads} heads do not divide dim {self.dim}")
        return self
