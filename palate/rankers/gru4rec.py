"""GRU4Rec (Hidasi et al. 2016; the loss and negatives are the trainer's choice, as in Hidasi & Karatzoglou 2018)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from palate.rankers.config import SequentialConfig
from palate.rankers.layers import ByteDropout
from palate.rankers.packing import PackedBatch
from palate.rankers.sequential import SequentialRanker


class GRU4RecConfig(SequentialConfig):
    """Hyper-parameters of :class:`GRU4Rec` beyond :class:`SequentialConfig`.

    Attributes:
        layers: stacked recurrent layers.
        hidden: width of the recurrent state, as a multiple of ``dim``.
    """

    layers: int = Field(1, ge=1)
    hidden: float = Field(2, gt=0)


class Recurrent(nn.Module):
    """A GRU over packed sequences and a projection back: ``[T, dim]`` to ``[T, dim]``."""

    def __init__(self, config: GRU4RecConfig) -> None:
        super().__init__()
        hidden = round(config.hidden * config.dim)
        # Item vectors start small (they also are the output's weights); the recurrent gates want inputs of size one.
        self.input_norm = nn.LayerNorm(config.dim)
        self.dropout = ByteDropout(config.dropout)
        self.gru = nn.GRU(
            config.dim, hidden, config.layers, dropout=config.dropout if config.layers > 1 else 0.0, batch_first=True
        )
        self.output = nn.Linear(hidden, config.dim)

    def forward(self, x: Tensor, batch: PackedBatch) -> Tensor:
        if len(batch.lengths) == 1:
            states, _ = self.gru(self.dropout(self.input_norm(x)).unsqueeze(0))
            only: Tensor = self.output(self.dropout(states[0]))
            return only
        # PyTorch's packed sequences are time-major without padding; ours are sequence-major without padding.
        lengths = torch.from_numpy(batch.lengths)
        rows = list(torch.split(self.dropout(self.input_norm(x)), batch.lengths.tolist()))
        packed = nn.utils.rnn.pack_sequence(rows, enforce_sorted=False)
        states, _ = self.gru(packed)
        padded, _ = nn.utils.rnn.pad_packed_sequence(states, batch_first=True)
        real = torch.arange(padded.shape[1]).unsqueeze(0) < lengths.unsqueeze(1)
        result: Tensor = self.output(self.dropout(padded[real.to(padded.device)]))
        return result


class GRU4Rec(SequentialRanker):
    """A gated recurrent network reads the history; the item vectors are tied to the output."""

    name = "gru4rec"
    Config: ClassVar[type[SequentialConfig]] = GRU4RecConfig

    def __init__(self, config: GRU4RecConfig, num_items: int, widths: Mapping[str, int]) -> None:
        super().__init__(config, num_items, widths)
        self.encoders = nn.ModuleList(Recurrent(config) for _ in range(self.items.out_dim // config.dim))

    def encode(self, inputs: Tensor, batch: PackedBatch) -> Tensor:
        parts = torch.split(inputs, self.config.dim, dim=1)
        return torch.cat([encoder(part, batch) for encoder, part in zip(self.encoders, parts, strict=True)], dim=1)
