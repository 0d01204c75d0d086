"""A causal transformer over the codes of a history: all positions at once, or a few more behind what was read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from palate.rankers.layers import ByteDropout, CausalAttention, FeedForward, TransformerBlock, initialise
from palate.rankers.packing import Grid, PackedBatch
from palate.rankers.tiger.config import TIGERConfig

# Keys and values, one pair per block.
Cache = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Memory:
    """Histories that were read.

    Attributes:
        cache: keys and values ``[B, heads, H, dim / heads]``.
        hidden: bool ``[B, 1, 1, H]``, True at padding.
        lengths: int64 ``[B]``, items of each history.
        last: float ``[B, dim]``, the state of the last code, which expects the first one of the next item.
    """

    cache: Cache
    hidden: Tensor
    lengths: Tensor
    last: Tensor


class CodeDecoder(nn.Module):
    """Reads items as ``levels`` codes each, and expects the next code at each of them.

    A code's vector is from the table of its level, which also tells the level, and the place of its item in the history
    is added to it. The logits of a code are products with the same vectors.
    """

    def __init__(self, config: TIGERConfig) -> None:
        super().__init__()
        dim, self.levels = config.dim, config.levels + 1
        self.tables = nn.ModuleList(nn.Embedding(config.codebook, dim) for _ in range(self.levels))
        self.places = nn.Embedding(config.max_length + 1, dim)
        self.dropout = ByteDropout(config.dropout)
        feed_forward = partial(FeedForward, dim, round(config.hidden * dim), config.dropout, "gelu")
        self.blocks = nn.ModuleList(
            TransformerBlock(dim, config.heads, feed_forward, config.dropout, 0.0, "pre", "standard")
            for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.apply(initialise)

    def embed(self, codes: Tensor, places: Tensor) -> Tensor:
        """``[..., levels, dim]`` of codes ``[..., levels]`` of items at ``places`` ``[...]``."""
        vectors = [table(codes[..., level]) for level, table in enumerate(self.tables)]
        embedded: Tensor = self.dropout(torch.stack(vectors, -2) + self.places(places).unsqueeze(-2))
        return embedded

    def logits(self, states: Tensor, level: int) -> Tensor:
        """``[..., codebook]``: what states ``[..., dim]`` expect at a level."""
        table = self.tables[level]
        assert isinstance(table, nn.Embedding)
        return states.float() @ table.weight.float().T

    def forward(self, codes: Tensor, batch: PackedBatch) -> Tensor:
        """States ``[T - B, levels, dim]`` that expect the codes of every item but the first of each sequence.

        Args:
            codes: int64 ``[T, levels]``, of the batch's items.
        """
        embedded = self.embed(codes, batch.positions).flatten(0, 1)
        # The last code of a sequence expects nothing that is there.
        lengths = batch.lengths * self.levels - 1
        kept = np.ones(len(embedded), np.bool_)
        kept[np.cumsum(lengths + 1) - 1] = False
        within = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        grid = Grid.pack(lengths, batch.width * self.levels - 1, batch.device)
        x = embedded[torch.from_numpy(kept).to(batch.device)]
        for block in self.blocks:
            x = block(x, grid)
        expecting = torch.from_numpy(within >= self.levels - 1).to(batch.device)
        states: Tensor = self.norm(x[expecting]).view(-1, self.levels, x.shape[1])
        return states

    def read(self, codes: Tensor, lengths: Tensor) -> Memory:
        """Read histories once, for any number of continuations.

        Args:
            codes: int64 ``[B, items, levels]``, padded behind.
            lengths: int64 ``[B]``, items of each history, at least 1.
        """
        x = self.embed(codes, torch.arange(codes.shape[1], device=codes.device)).flatten(1, 2)
        cache: Cache = []
        for block in self.blocks:
            assert isinstance(block, TransformerBlock)
            x = block.around(partial(_attend_to_past, block.attention, cache), x)
        tokens = lengths * self.levels
        last = x[torch.arange(len(x), device=x.device), tokens - 1]
        hidden = torch.arange(x.shape[1], device=x.device) >= tokens.unsqueeze(1)
        return Memory(cache, hidden[:, None, None], lengths, self.norm(last))

    def extend(self, memory: Memory, path: Cache, codes: Tensor, level: int) -> tuple[Tensor, Cache]:
        """Write one more code behind each history, in ``S`` ways that do not see each other.

        Args:
            path: keys and values ``[B, heads, S, level, dim / heads]`` of the codes before, of the item that is
                written.
            codes: int64 ``[B, S]``, the codes at ``level``.

        Returns:
            The states ``[B, S, dim]`` that expect the next code, and the longer path.
        """
        x = self.dropout(self.tables[level](codes) + self.places(memory.lengths).unsqueeze(1))
        longer: Cache = []
        for number, block in enumerate(self.blocks):
            assert isinstance(block, TransformerBlock)
            before = path[number] if path else None
            attend = partial(_attend_to_path, block.attention, memory.cache[number], memory.hidden, before, longer)
            x = block.around(attend, x)
        return self.norm(x), longer


def _project(attention: CausalAttention, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values ``[B, heads, S, dim / heads]`` of ``[B, S, dim]``."""
    parts = attention.inputs(x).view(*x.shape[:2], 3, attention.heads, -1).permute(2, 0, 3, 1, 4)
    return parts[0], parts[1], parts[2]


def _attend_to_past(attention: CausalAttention, cache: Cache, x: Tensor) -> Tensor:
    query, key, value = _project(attention, x)
    cache.append((key, value))
    mixed = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    result: Tensor = attention.output(mixed.transpose(1, 2).flatten(2))
    return result


def _attend_to_path(
    attention: CausalAttention,
    past: tuple[Tensor, Tensor],
    hidden: Tensor,
    before: tuple[Tensor, Tensor] | None,
    longer: Cache,
    x: Tensor,
) -> Tensor:
    """Each of the ``S`` continuations sees the history, which they share, and its own codes."""
    query, key, value = _project(attention, x)
    keys, values = key.unsqueeze(3), value.unsqueeze(3)
    if before is not None:
        keys, values = torch.cat([before[0], keys], 3), torch.cat([before[1], values], 3)
    longer.append((keys, values))
    query = query / query.shape[-1] ** 0.5
    shared = (query @ past[0].transpose(-1, -2)).masked_fill(hidden, -torch.inf)
    own = (query.unsqueeze(3) * keys).sum(-1)
    weights = torch.cat([shared, own], -1).softmax(-1)
    of_past, of_path = weights[..., : shared.shape[-1]], weights[..., shared.shape[-1] :]
    mixed = of_past @ past[1] + (of_path.unsqueeze(-1) * values).sum(3)
    result: Tensor = attention.output(mixed.transpose(1, 2).flatten(2))
    return result
