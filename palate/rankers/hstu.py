"""HSTU (Zhai et al. 2024, arXiv 2402.17152): gated pointwise attention that sees how long ago things happened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import silu

from palate.data.sequences import NO_TIME
from palate.errors import PalateError
from palate.rankers.config import SequentialConfig
from palate.rankers.layers import ByteDropout, initialise
from palate.rankers.packing import Grid, PackedBatch
from palate.rankers.sequential import SequentialRanker
from palate.rankers.time_bias import RelativeBias, time_buckets

_HOUR, _DAY = 3_600_000, 86_400_000
# 1 January 1970 was a Thursday; weekdays count from Monday.
_FIRST_WEEKDAY = 3
_CALENDAR = {"hour": 24, "weekday": 7}
# Attended values are small (a sum of many over a large constant): with the usual 1e-5 their normalisation is cut short.
_EPSILON = 1e-6


class HSTUConfig(SequentialConfig):
    """Hyper-parameters of :class:`HSTU` beyond :class:`SequentialConfig`.

    Attributes:
        layers: blocks.
        heads: attention heads; must divide ``dim``.
        positions: learned positions counted from the ``first`` or the ``last`` item read, or ``none``; the bias by
            places apart is there in any case.
        time, time_buckets, time_dropout, calendar: see the fields.
    """

    layers: int = Field(2, ge=1)
    heads: int = Field(2, ge=1)
    dropout: float = Field(0.2, ge=0, lt=1)
    positions: Literal["first", "last", "none"] = "last"
    time: Literal["event", "query", "none"] = Field(
        "event",
        description="From when an earlier event's age is counted: the event at the position (event), the moment at "
        "which the next item is asked for (query: in the log, when it was taken), or not at all (none).",
    )
    time_buckets: int = Field(64, ge=1, description="Of the logarithm of the age; 64 of them reach 5 years.")
    time_dropout: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Share of training sequences whose times are hidden, so that histories without times are answered "
        "as well.",
    )
    calendar: tuple[Literal["hour", "weekday"], ...] = Field(
        (), description="Parts of the calendar (UTC) that are added to the inputs."
    )

    @model_validator(mode="after")
    def _check_times(self) -> Self:
        if self.calendar and self.time == "none":
            raise ValueError("the calendar is read from the times, and time = 'none' leaves them out")
        if len(set(self.calendar)) != len(self.calendar):
            raise ValueError("calendar must be different names")
        return self

    @property
    def reads_times(self) -> bool:
        return self.time != "none"

    @property
    def needs_times(self) -> bool:
        return bool(self.calendar) or self.time == "query"


class HSTUBlock(nn.Module):
    """One pointwise gated attention with a residual connection; there is no feed-forward layer (section 3.1).

    ``U, V, Q, K = SiLU(f1(norm(X)))``, ``A = SiLU(Q K^T + rab) / n`` over the past, and
    ``Y = X + f2(norm(A V) * U)``. ``n`` is the longest length that is read, so that a sequence's states do not depend
    on the others in its batch.
    """

    def __init__(self, config: HSTUConfig) -> None:
        super().__init__()
        self.heads, self.n = config.heads, config.max_length
        self.norm = nn.LayerNorm(config.dim, eps=_EPSILON)
        self.inputs = nn.Linear(config.dim, 4 * config.dim, bias=False)
        self.bias = RelativeBias(config.max_length, config.time_buckets if config.reads_times else 0)
        self.attended_norm = nn.LayerNorm(config.dim, eps=_EPSILON)
        self.dropout = ByteDropout(config.dropout)
        self.output = nn.Linear(config.dim, config.dim)

    def forward(self, x: Tensor, grid: Grid, seen: Tensor, apart: Tensor | None) -> Tensor:
        """``x`` is ``[T, dim]``, and so is the result.

        Args:
            seen: float ``[R, 1, W, W]`` or ``[1, 1, W, W]``, ``1`` where the row's event looks at the column's.
            apart: see :meth:`palate.rankers.time_bias.RelativeBias.forward`.
        """
        dim = x.shape[1]
        gate, rows = torch.split(silu(self.inputs(self.norm(x))), [dim, 3 * dim], dim=1)
        if grid.tokens is not None:
            rows = rows.index_select(0, grid.tokens)
        # [R * W, 3 * dim] -> three of [R, heads, W, dim / heads]
        value, query, key = rows.reshape(-1, grid.width, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        weights = silu(query @ key.transpose(2, 3) + self.bias(grid.width, apart)) * (seen / self.n)
        flat = (weights @ value).transpose(1, 2).reshape(-1, dim)
        attended = flat if grid.cells is None else flat.index_select(0, grid.cells)
        update: Tensor = self.output(self.dropout(self.attended_norm(attended) * gate))
        return x + update


class HSTUEncoder(nn.Module):
    """HSTU blocks over packed sequences: ``[T, dim]`` to ``[T, dim]``."""

    def __init__(self, config: HSTUConfig) -> None:
        super().__init__()
        self.config = config
        self.position = nn.Embedding(config.max_length, config.dim) if config.positions != "none" else None
        self.dropout = ByteDropout(config.dropout)
        self.blocks = nn.ModuleList(HSTUBlock(config) for _ in range(config.layers))
        self.output_norm = nn.LayerNorm(config.dim)
        self.apply(initialise)
        # Row 0 stands for a time that is not known. Zero, so that a model that never saw times does not heed them.
        self.calendar = nn.ModuleDict(
            {name: nn.Embedding(_CALENDAR[name] + 1, config.dim, padding_idx=0) for name in config.calendar}
        )
        for table in self.calendar.parameters():
            nn.init.zeros_(table)

    def forward(self, x: Tensor, batch: PackedBatch, now: Tensor | None, apart: Tensor | None) -> Tensor:
        """``x`` is ``[T, dim]``.

        Args:
            now: int64 ``[T]``, the time of each token's calendar, or None.
            apart: see :class:`HSTUBlock`.
        """
        if self.position is not None:
            first = self.config.positions == "first"
            places = batch.positions if first else self.config.max_length - 1 - batch.positions_from_end
            x = x + self.position(places)
        for name, table in self.calendar.items():
            x = x + table(calendar_part(name, now, len(x), x.device))
        x = self.dropout(x)
        grid = batch.grid
        if grid.mask is None:
            seen = torch.ones(1, 1, grid.width, grid.width, dtype=x.dtype, device=x.device).tril_()
        else:
            seen = grid.mask.to(x.dtype)
        for block in self.blocks:
            x = block(x, grid, seen, apart)
        normed: Tensor = self.output_norm(x)
        return normed


def calendar_part(name: str, now: Tensor | None, count: int, device: torch.device) -> Tensor:
    """int64 ``[T]``: the hour of the day (UTC) or the weekday (Monday is 1) of each time, from 1; 0: not known."""
    if now is None:
        return torch.zeros(count, dtype=torch.long, device=device)
    part = now // _HOUR % 24 if name == "hour" else (now // _DAY + _FIRST_WEEKDAY) % 7
    return (part + 1).masked_fill(now == NO_TIME, 0)


class HSTU(SequentialRanker):
    """A hierarchical sequential transduction unit reads the newest items of a history, and when each was taken.

    The score of an item is the product of the last state and the item's vector, as everywhere in Palate. With ``late``
    fusion every modality has an encoder of its own, and the scores are added. Histories without times are answered by
    the same model without the biases of time.
    """

    name = "hstu"
    Config: ClassVar[type[SequentialConfig]] = HSTUConfig
    exports: ClassVar[bool] = False

    def __init__(self, config: HSTUConfig, num_items: int, widths: Mapping[str, int]) -> None:
        super().__init__(config, num_items, widths)
        if config.dim % config.heads:
            raise PalateError(
                f"{config.heads} heads do not divide dim {config.dim}", "Change ranker.heads or ranker.dim."
            )
        self.time, self.buckets, self.time_dropout = config.time, config.time_buckets, config.time_dropout
        self.encoders = nn.ModuleList(HSTUEncoder(config) for _ in range(self.items.out_dim // config.dim))

    def encode(self, inputs: Tensor, batch: PackedBatch) -> Tensor:
        now, then = self._clocks(batch)
        apart = None if now is None or then is None else time_buckets(now, then, batch.grid, self.buckets)
        parts = torch.split(inputs, self.config.dim, dim=1)
        hidden = [encoder(part, batch, now, apart) for encoder, part in zip(self.encoders, parts, strict=True)]
        return torch.cat(hidden, dim=1)

    def _clocks(self, batch: PackedBatch) -> tuple[Tensor | None, Tensor | None]:
        """int64 ``[T]``: from when each token counts, and when it was taken; hidden from some sequences in training."""
        then = batch.times if self.time != "none" else None
        if then is None:
            return None, None
        now = then if self.time == "event" else batch.asked_at
        if self.training and self.time_dropout:
            hidden = self._drawn(batch)
            if self.time == "query":  # when somebody asks may be unknown while the times of the history are not
                now = torch.where(self._drawn(batch), then, now)
            now, then = now.masked_fill(hidden, NO_TIME), then.masked_fill(hidden, NO_TIME)
        return now, then

    def _drawn(self, batch: PackedBatch) -> Tensor:
        """bool ``[T]``: the tokens of a share of the sequences."""
        rows = torch.rand(len(batch.lengths), device=batch.device) < self.time_dropout
        return rows.repeat_interleave(torch.from_numpy(batch.lengths).to(batch.device))
