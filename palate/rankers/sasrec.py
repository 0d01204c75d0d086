"""SASRec (Kang & McAuley 2018), with text and picture features and a choice of blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from palate.errors import PalateError
from palate.rankers.layers import Block, ByteDropout, Norm, TransformerBlock
from palate.rankers.packing import PackedBatch
from palate.rankers.sequential import SequentialConfig, SequentialRanker


class SASRecConfig(SequentialConfig):
    """Hyper-parameters of :class:`SASRec` beyond :class:`SequentialConfig`.

    Attributes:
        layers: transformer blocks.
        heads: attention heads; must divide ``dim``.
        hidden: width of the feed-forward layer, as a multiple of ``dim``.
        attention_dropout: dropout on the attention weights.
        norm: ``pre`` or ``post``.
        block: ``standard`` or ``ligr`` (gated, pre-norm).
        positions: learned positions counted from the ``first`` or the ``last`` item read, or ``none``.
        input_norm: normalise the sum of item vector and position before the first block.
        scale_inputs: multiply the item vectors by ``sqrt(dim)`` before positions are added.
    """

    layers: int = Field(2, ge=0)
    heads: int = Field(2, ge=1)
    hidden: float = Field(4, gt=0)
    attention_dropout: float = Field(0.0, ge=0, lt=1)
    activation: Literal["gelu", "relu"] = "gelu"
    norm: Norm = "pre"
    block: Block = "standard"
    positions: Literal["first", "last", "none"] = "last"
    input_norm: bool = False
    scale_inputs: bool = False


class Encoder(nn.Module):
    """A causal transformer over packed sequences: ``[T, dim]`` to ``[T, dim]``."""

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        self.position = nn.Embedding(config.max_length, dim) if config.positions != "none" else None
        self.input_norm = nn.LayerNorm(dim) if config.input_norm else None
        self.dropout = ByteDropout(config.dropout)
        self.blocks = nn.ModuleList(
            TransformerBlock(
                dim,
                config.heads,
                round(config.hidden * dim),
                config.dropout,
                config.attention_dropout,
                config.activation,
                config.norm,
                config.block,
            )
            for _ in range(config.layers)
        )
        post = config.norm == "post" and config.block == "standard"
        self.output_norm = None if post else nn.LayerNorm(dim)
        self.apply(self._initialise)

    @staticmethod
    def _initialise(module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)

    def forward(self, x: Tensor, batch: PackedBatch) -> Tensor:
        if self.config.scale_inputs:
            x = x * self.config.dim**0.5
        if self.position is not None:
            first = self.config.positions == "first"
            places = batch.positions if first else self.config.max_length - 1 - batch.positions_from_end
            x = x + self.position(places)
        if self.input_norm is not None:
            x = self.input_norm(x)
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x, batch.grid)
        return x if self.output_norm is None else self.output_norm(x)


class SASRec(SequentialRanker):
    """Self-attentive sequential recommendation: a causal transformer reads the newest items of a history.

    The score of an item is the product of the last hidden state and the item's vector, which also is its input
    embedding. With ``late`` fusion every modality has an encoder of its own and the scores are added.
    """

    name = "sasrec"
    Config: ClassVar[type[SequentialConfig]] = SASRecConfig

    def __init__(self, config: SASRecConfig, num_items: int, widths: Mapping[str, int]) -> None:
        super().__init__(config, num_items, widths)
        if config.dim % config.heads:
            raise PalateError(
                f"{config.heads} heads do not divide dim {config.dim}", "Change ranker.heads or ranker.dim."
            )
        self.encoders = nn.ModuleList(Encoder(config) for _ in range(self.items.out_dim // config.dim))

    def encode(self, inputs: Tensor, batch: PackedBatch) -> Tensor:
        parts = torch.split(inputs, self.config.dim, dim=1)
        return torch.cat([encoder(part, batch) for encoder, part in zip(self.encoders, parts, strict=True)], dim=1)
