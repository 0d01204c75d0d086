"""BERT4Rec (Sun et al. 2019, arXiv 1904.06690): a transformer that looks both ways, trained on masked items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from palate.objectives import Objective
from palate.rankers.auxiliary import AuxiliaryLosses
from palate.rankers.cloze import ClozeStep, MaskedBatch
from palate.rankers.config import SequentialConfig
from palate.rankers.layers import Norm
from palate.rankers.packing import PackedBatch
from palate.rankers.sasrec import SASRec, SASRecConfig, TransformerEncoder
from palate.rankers.step import TrainingStep


class BERT4RecConfig(SASRecConfig):
    """Hyper-parameters of :class:`BERT4Rec` beyond :class:`SASRecConfig`.

    Attributes:
        mask_probability: share of the items of a training sequence that are hidden and to be found (rho of the paper).
        last_probability: share of training sequences of which the last item alone is hidden, as it is when the model
            answers.
    """

    norm: Norm = "post"
    dropout: float = Field(0.2, ge=0, lt=1)
    mask_probability: float = Field(0.2, gt=0, lt=1)
    last_probability: float = Field(0.1, ge=0, le=1)

    @model_validator(mode="after")
    def _no_repeats(self) -> BERT4RecConfig:
        if self.repeat_bias:
            raise ValueError("repeat_bias looks at what came before a position, and a masked item has both sides")
        return self


class BERT4Rec(SASRec):
    """A bidirectional transformer fills in hidden items; to recommend, it fills in the one after a history.

    As in the authors' code the state of a hidden item passes through a dense layer with GELU and a normalisation before
    it is multiplied with the items' vectors. There is no bias per item.
    """

    name = "bert4rec"
    Config: ClassVar[type[SequentialConfig]] = BERT4RecConfig
    causal: ClassVar[bool] = False

    def __init__(self, config: BERT4RecConfig, num_items: int, widths: Mapping[str, int]) -> None:
        super().__init__(config, num_items, widths)
        longer = config.model_copy(update={"max_length": config.max_length + 1})
        self.encoders = nn.ModuleList(TransformerEncoder(longer) for _ in self.encoders)
        width = self.items.out_dim
        self.mask = nn.Parameter(torch.empty(width).normal_(std=0.02))
        self.output = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))

    def training_step(self, objective: Objective, rows: bool = False) -> TrainingStep:
        assert isinstance(self.config, BERT4RecConfig)
        return ClozeStep(objective, self.config)

    def encode(self, inputs: Tensor, batch: PackedBatch, aux: AuxiliaryLosses | None = None) -> Tensor:
        """States ``[T, out_dim]``: those of the last items stand for the item that comes after each sequence.

        Of a :class:`MaskedBatch`: the states of its hidden items only, ``[M, out_dim]``.
        """
        if isinstance(batch, MaskedBatch):
            hidden = torch.where(batch.masked.unsqueeze(1), self.mask.to(inputs.dtype), inputs)
            states: Tensor = self.output(super().encode(hidden, batch, aux)[batch.masked])
            return states
        longer = MaskedBatch.extended(batch)
        places = inputs.new_zeros(len(longer.items), inputs.shape[1])
        places[~longer.masked] = inputs
        found = inputs.clone()
        found[batch.last] = self.encode(places, longer, aux).to(found.dtype)
        return found
