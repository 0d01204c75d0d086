"""The table of ids divided among workers: each keeps some rows, and reads the others' by exchange.

With ``W`` workers row ``r`` is row ``r // W`` of worker ``r % W``. A look-up costs what it reads: each worker sends the
others the numbers of the rows that it needs from them, and gets the vectors back; the gradients go the same way.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from palate.errors import PalateError

# Rows that are drawn, or read, at a time where all are. A multiple of 16, so that torch draws the same numbers as at
# once.
BLOCK_ROWS = 65_536
_STD = 0.02


@dataclass(frozen=True)
class RowShare:
    """The rows of one worker: ``index, index + count, ...``, as :meth:`palate.runs.workers.Workers.share` divides."""

    index: int
    count: int

    def rows(self, total: int) -> range:
        """The worker's own rows of a table of ``total``."""
        return range(self.index, total, self.count)


# Of models that are made without a table, because their items' vectors come from elsewhere.
NO_ROWS = RowShare(0, 0)


class ShardedIds(nn.Module):
    """A worker's share of an embedding table, in place of an ``nn.Embedding`` of all rows.

    Training gives each row the mean over the workers of the gradients of their losses, as ``DistributedDataParallel``
    does with other parameters; it has to leave ``own`` out.

    Attributes:
        own: the worker's rows, with sparse gradients.
        num_rows: of the whole table.
    """

    def __init__(self, num_rows: int, width: int, share: RowShare) -> None:
        super().__init__()
        self.num_rows, self.width, self.share = num_rows, width, share
        weight = torch.empty(len(share.rows(num_rows)), width)
        _draw_rows(weight, num_rows, share)
        self.own: nn.Embedding = nn.Embedding.from_pretrained(  # type: ignore[no-untyped-call]
            weight, freeze=False, sparse=True
        )

    @property
    def weight(self) -> Tensor:
        """An ``nn.Embedding`` has all rows here.

        Raises:
            PalateError: always.
        """
        raise PalateError("no worker has the whole table of ids", "Read rows, or train with trainer.item_table=dense.")

    def forward(self, index: Tensor) -> Tensor:
        """``[n, width]``, the rows ``index`` (int64 ``[n]``). All workers call it together, each with its own index."""
        workers = self.share.count
        if workers == 1:
            return self.own_rows(index)
        order = torch.argsort(index % workers, stable=True)
        reads = torch.bincount(index % workers, minlength=workers)
        gives = exchanged(reads, [1] * workers, [1] * workers)
        read, given = reads.tolist(), gives.tolist()
        places = exchanged(index[order] // workers, read, given)
        return exchanged(self._of_own(places), given, read).index_select(0, torch.argsort(order))

    def own_rows(self, index: Tensor) -> Tensor:
        """``[n, width]``, rows (int64 ``[n]``) that are all the worker's own; the others need not call it."""
        return self._of_own(index // self.share.count)

    def block(self, index: Tensor) -> Tensor:
        """Like :meth:`own_rows`, for one of the blocks in which a step reads all rows: its gradients are added to those
        of the weight in place, where torch would make a gradient of all rows for each block."""
        rows: Tensor = _Block.apply(self.own.weight, index // self.share.count, self.share.count)  # type: ignore[no-untyped-call]
        return rows

    def _of_own(self, places: Tensor) -> Tensor:
        rows: Tensor = self.own(places)
        if rows.requires_grad:
            rows.register_hook(lambda gradient: gradient / self.share.count)  # type: ignore[no-untyped-call]
        return rows


class _Exchange(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, sends: list[int], receives: list[int]) -> Tensor:
        ctx.counts = receives, sends
        found = values.new_empty(sum(receives), *values.shape[1:])
        dist.all_to_all_single(found, values.contiguous(), receives, sends)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return exchanged(gradients[0], *ctx.counts), None, None


class _Block(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, places: Tensor, divisor: int) -> Tensor:
        ctx.weight, ctx.places, ctx.divisor = weight, places, divisor
        return weight.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, None]:
        if ctx.weight.grad is None:
            ctx.weight.grad = torch.zeros_like(ctx.weight)
        ctx.weight.grad.index_add_(0, ctx.places, gradients[0], alpha=1 / ctx.divisor)
        return None, None, None


def exchanged(values: Tensor, sends: list[int], receives: list[int]) -> Tensor:
    """What all workers have sent to this one, in the order of their numbers; gradients go back to who has sent.

    Args:
        values: the first ``sends[0]`` rows go to worker 0, the next ``sends[1]`` to worker 1 ...
        receives: how many rows come from each.
    """
    if len(sends) == 1:
        return values
    found: Tensor = _Exchange.apply(values, sends, receives)  # type: ignore[no-untyped-call]
    return found


def sharded_ids(model: nn.Module) -> ShardedIds | None:
    """The table of ids of a ranker where it is sharded."""
    return next((module for module in model.modules() if isinstance(module, ShardedIds)), None)


def numbers_elsewhere(model: nn.Module) -> int:
    """Parameters of a ranker that other workers keep."""
    ids = sharded_ids(model)
    return 0 if ids is None else ids.num_rows * ids.width - ids.own.weight.numel()


def _draw_rows(weight: Tensor, num_rows: int, share: RowShare) -> None:
    """Fill in the rows that a whole table would have, and leave the random numbers where it would leave them."""
    for _ in range(2):  # torch draws an embedding, and :func:`make_id_table` draws it again
        for start in range(0, max(num_rows - BLOCK_ROWS, 0) + 1, BLOCK_ROWS):
            last = num_rows - start < 2 * BLOCK_ROWS  # torch draws less than 16 numbers in another way
            drawn = torch.empty(num_rows - start if last else BLOCK_ROWS, weight.shape[1]).normal_(std=_STD)
            first = (share.index - start) % share.count
            place = (start + first) // share.count
            mine = drawn[first :: share.count]
            weight[place : place + len(mine)] = mine


_SHARE: ContextVar[RowShare | None] = ContextVar("share", default=None)


@contextmanager
def sharded(share: RowShare | None) -> Iterator[None]:
    """Models that are made in this block have a :class:`ShardedIds`; None: they have whole tables."""
    token = _SHARE.set(share)
    try:
        yield
    finally:
        _SHARE.reset(token)


def make_id_table(num_rows: int, width: int) -> nn.Embedding | ShardedIds:
    """A table of small random numbers: all of it, or inside :func:`sharded` one worker's share."""
    share = _SHARE.get()
    if share == NO_ROWS:
        return nn.Embedding(0, width)
    if share is not None:
        return ShardedIds(num_rows, width, share)
    table = nn.Embedding(num_rows, width)
    nn.init.normal_(table.weight, std=_STD)
    return table
