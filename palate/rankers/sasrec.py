"""SASRec (Kang & McAuley 2018), with text and picture features and a choice of blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from palate.errors import PalateError
from palate.rankers.auxiliary import AuxiliaryLosses
from palate.rankers.config import SequentialConfig
from palate.rankers.layers import Block, ByteDropout, FeedForward, Norm, TransformerBlock, initialise
from palate.rankers.moe import SparseFeedForward
from palate.rankers.packing import PackedBatch
from palate.rankers.sequential import SequentialRanker

# What ffn = "moe" takes by default; a dense encoder has none of these.
_MOE: dict[str, Any] = {"experts": 4, "active": 1, "balance": 0.01, "z_loss": 0.0}


class SASRecConfig(SequentialConfig):
    """Hyper-parameters of :class:`SASRec` beyond :class:`SequentialConfig`.

    Attributes:
        layers: transformer blocks.
        heads: attention heads; must divide ``dim``.
        hidden: width of the feed-forward layer (of each expert), as a multiple of ``dim``.
        attention_dropout: dropout on the attention weights.
        norm: ``pre`` or ``post``.
        block: ``standard`` or ``ligr`` (gated, pre-norm).
        positions: learned positions counted from the ``first`` or the ``last`` item read, or ``none``.
        input_norm: normalise the sum of item vector and position before the first block.
        scale_inputs: multiply the item vectors by ``sqrt(dim)`` before positions are added.
        ffn, experts, active: see the fields.
        balance: coefficient of the load-balancing loss; with ``moe``, 0.01 by default.
        z_loss: coefficient of the router's z-loss; with ``moe``, 0 by default.
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
    ffn: Literal["dense", "moe"] = Field(
        "dense",
        description="Feed-forward layers of the blocks: one network each, or a mixture of experts, of which an item "
        "passes through a few.",
    )
    experts: int | None = Field(None, ge=1, description="With moe: networks in each block (4 by default).")
    active: int | None = Field(None, ge=1, description="With moe: networks that an item passes through (1 by default).")
    balance: float | None = Field(None, ge=0)
    z_loss: float | None = Field(None, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _fill_moe(cls, values: Any) -> Any:
        """Settings left out of a mixture of experts are its defaults, so that a run records the numbers."""
        if not isinstance(values, Mapping) or values.get("ffn") != "moe":
            return values
        return {**values, **{name: value for name, value in _MOE.items() if values.get(name) is None}}

    @model_validator(mode="after")
    def _check_moe(self) -> Self:
        if self.ffn == "dense":
            for name in _MOE:
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} is a setting of ffn = 'moe' (--encoder-ffn moe)")
            return self
        assert self.experts is not None
        assert self.active is not None
        if self.active > self.experts:
            raise ValueError(f"active = {self.active}: there are {self.experts} experts only")
        if not self.layers:
            raise ValueError("ffn = 'moe' needs a block to stand in, and layers = 0")
        return self

    def feed_forward(self) -> Callable[[], nn.Module]:
        """Makes the feed-forward layer of a block."""
        parts = (self.dim, round(self.hidden * self.dim), self.dropout, self.activation)
        if self.ffn == "dense":
            return partial(FeedForward, *parts)
        return partial(SparseFeedForward, *parts, **{name: getattr(self, name) for name in _MOE})


class TransformerEncoder(nn.Module):
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
                config.feed_forward(),
                config.dropout,
                config.attention_dropout,
                config.norm,
                config.block,
            )
            for _ in range(config.layers)
        )
        post = config.norm == "post" and config.block == "standard"
        self.output_norm = None if post else nn.LayerNorm(dim)
        self.apply(initialise)

    def forward(self, x: Tensor, batch: PackedBatch, aux: AuxiliaryLosses | None = None) -> Tensor:
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
            x = block(x, batch.grid, aux)
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
        self.sparse = config.ffn == "moe"
        self.encoders = nn.ModuleList(TransformerEncoder(config) for _ in range(self.items.out_dim // config.dim))

    def encode(self, inputs: Tensor, batch: PackedBatch, aux: AuxiliaryLosses | None = None) -> Tensor:
        if len(self.encoders) == 1:
            only: Tensor = self.encoders[0](inputs, batch, aux)
            return only
        parts = torch.split(inputs, self.config.dim, dim=1)
        hidden = [encoder(part, batch, aux) for encoder, part in zip(self.encoders, parts, strict=True)]
        return torch.cat(hidden, dim=1)

    def encode_with_aux(self, inputs: Tensor, batch: PackedBatch, aux: AuxiliaryLosses) -> Tensor:
        return self.encode(inputs, batch, aux) if self.sparse else self.encode(inputs, batch)
