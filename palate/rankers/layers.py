"""The transformer block of the sequence encoders: normalisation before or after, plain or gated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from palate.rankers.auxiliary import AuxiliaryLosses
from palate.rankers.packing import Grid

Norm = Literal["pre", "post"]
Block = Literal["standard", "ligr"]


def initialise(module: nn.Module) -> None:
    """Give a layer its first weights, for ``nn.Module.apply``: normal with a standard deviation of 0.02, no bias."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


class ByteDropout(nn.Module):
    """Dropout that draws one random byte an element: on a CPU several times faster than ``nn.Dropout``.

    The probability is rounded to 1/256, but neither to 0 nor to 1.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.threshold = min(max(round(p * 256), int(p > 0)), 255)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.threshold == 0:
            return x
        if x.device.type != "cpu":
            return nn.functional.dropout(x, self.threshold / 256)
        words = (x.numel() + 7) // 8
        draws = torch.empty(words, dtype=torch.int64).random_(torch.iinfo(torch.int64).min, None)
        keep = draws.view(torch.uint8)[: x.numel()].view(x.shape) >= self.threshold
        return x * keep * (256 / (256 - self.threshold))


class CausalAttention(nn.Module):
    """Multi-head self-attention over packed sequences, through PyTorch's fused kernel."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.inputs = nn.Linear(dim, 3 * dim)
        self.output = nn.Linear(dim, dim)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """``x`` is ``[T, dim]``, and so is the result."""
        rows = self.inputs(x)
        if grid.tokens is not None:
            rows = rows.index_select(0, grid.tokens)
        # [R * W, 3 * dim] -> three of [R, heads, W, dim / heads]
        query, key, value = rows.view(-1, grid.width, 3, self.heads, x.shape[1] // self.heads).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=grid.mask,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=grid.mask is None,
        )
        flat = mixed.transpose(1, 2).reshape(-1, x.shape[1])
        result: Tensor = self.output(flat if grid.cells is None else flat.index_select(0, grid.cells))
        return result


class FeedForward(nn.Module):
    """Two linear layers with a GELU or ReLU between."""

    def __init__(self, dim: int, hidden: int, dropout: float, activation: Literal["gelu", "relu"]) -> None:
        super().__init__()
        self.up = nn.Linear(dim, hidden)
        self.down = nn.Linear(hidden, dim)
        self.activation = nn.GELU() if activation == "gelu" else nn.ReLU()
        self.dropout = ByteDropout(dropout)

    def forward(self, x: Tensor, aux: AuxiliaryLosses | None = None) -> Tensor:
        result: Tensor = self.down(self.dropout(self.activation(self.up(x))))
        return result


class TransformerBlock(nn.Module):
    """Attention and feed-forward, each with a residual connection.

    Args:
        feed_forward: makes the second sublayer: called with ``x`` and ``aux`` as :class:`FeedForward` is.
        norm: ``pre`` normalises what a sublayer reads (SASRec, Kang & McAuley 2018), ``post`` what it adds to
            (the original transformer; RecBole's SASRec).
        block: ``ligr`` multiplies each sublayer's output by a learned sigmoid gate of its input (the LiGR layer of
            Borisyuk et al. 2025, which eSASRec adopts; always pre-norm).
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        feed_forward: Callable[[], nn.Module],
        dropout: float,
        attention_dropout: float,
        norm: Norm,
        block: Block,
    ) -> None:
        super().__init__()
        self.norm = "pre" if block == "ligr" else norm
        self.attention = CausalAttention(dim, heads, attention_dropout)
        self.feed_forward = feed_forward()
        self.attention_norm = nn.LayerNorm(dim)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.attention_gate = nn.Linear(dim, dim) if block == "ligr" else None
        self.feed_forward_gate = nn.Linear(dim, dim) if block == "ligr" else None
        self.dropout = ByteDropout(dropout)

    def forward(self, x: Tensor, grid: Grid, aux: AuxiliaryLosses | None = None) -> Tensor:
        return self.around(lambda read: self.attention(read, grid), x, aux)

    def around(self, attend: Callable[[Tensor], Tensor], x: Tensor, aux: AuxiliaryLosses | None = None) -> Tensor:
        """The block with another way to attend, ``[..., dim]`` to ``[..., dim]``: one with a cache, say."""
        if self.norm == "post":
            x = self.attention_norm(x + self.dropout(attend(x)))
            normed: Tensor = self.feed_forward_norm(x + self.dropout(self.feed_forward(x, aux)))
            return normed
        read = self.attention_norm(x)
        x = x + self._gated(self.dropout(attend(read)), read, self.attention_gate)
        read = self.feed_forward_norm(x)
        return x + self._gated(self.dropout(self.feed_forward(read, aux)), read, self.feed_forward_gate)

    @staticmethod
    def _gated(update: Tensor, read: Tensor, gate: nn.Linear | None) -> Tensor:
        return update if gate is None else update * torch.sigmoid(gate(read))
