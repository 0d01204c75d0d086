"""Relative attention bias: what a pair of events adds to the attention between them, by places apart and by time apart.

Zhai et al. 2024 (arXiv 2402.17152) call it ``rab^{p,t}``; its time part is bucketed by the logarithm of the interval.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from palate.data.sequences import NO_TIME
from palate.rankers.packing import Grid

# Of the logarithm of seconds: an interval is of the next bucket when it is 1.35 times as long (the authors' choice).
_BUCKET_WIDTH = 0.301


class RelativeBias(nn.Module):
    """``b_p[places apart] + b_t[bucket of the time apart]``, one number each whatever the head.

    Where a time is not known, nothing is added for the time. ``b_t`` starts at zero: a model that never saw times
    answers with them as it does without.

    Args:
        width: longest sequence.
        buckets: of time; 0 leaves the time out. 64 of them reach 5 years.
    """

    def __init__(self, width: int, buckets: int) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.empty(width).normal_(std=0.02))
        self.times = nn.Parameter(torch.zeros(buckets)) if buckets else None

    def forward(self, width: int, apart: Tensor | None) -> Tensor:
        """float ``[R, 1, W, W]`` or ``[1, 1, W, W]``: row the event that looks, column the one that is looked at.

        Args:
            width: of the grid.
            apart: int64 ``[R, W, W]`` of :func:`time_buckets`, or None.
        """
        row = torch.arange(width, device=self.places.device)
        # What comes later is not looked at, whatever this holds there.
        bias = self.places[(row.unsqueeze(1) - row.unsqueeze(0)).clamp(0, len(self.places) - 1)].view(
            1, 1, width, width
        )
        if self.times is None:
            return bias
        if apart is None:  # used all the same: several workers wait for the gradients of all parameters
            return bias + 0 * self.times.sum() if self.training else bias
        table = torch.cat([self.times, self.times.new_zeros(1)])
        # Looked up as a flat column: the backward pass of an embedding takes ten times as long.
        return bias + table.index_select(0, apart.view(-1)).view(len(apart), 1, width, width)


def time_buckets(now: Tensor, then: Tensor, grid: Grid, buckets: int) -> Tensor:
    """int64 ``[R, W, W]``: the bucket of ``now - then`` for each pair of cells; ``buckets`` where one is not known.

    ``floor(ln(max(1, seconds)) / 0.301)``, and the last bucket for all that is longer. Differences are taken of whole
    milliseconds, so that only they matter, and not how long ago all of it was.

    Args:
        now: int64 ``[T]`` Unix milliseconds of the tokens that look, or :data:`palate.data.sequences.NO_TIME`.
        then: int64 ``[T]`` of the tokens that are looked at.
    """
    if grid.tokens is not None:
        now, then = now.index_select(0, grid.tokens), then.index_select(0, grid.tokens)
    now, then = now.view(-1, grid.width, 1), then.view(-1, 1, grid.width)
    seconds = (now - then).clamp_min_(1000).float().mul_(1e-3)
    found = seconds.log_().mul_(1 / _BUCKET_WIDTH).clamp_max_(buckets - 1).long()
    return found.masked_fill_((now == NO_TIME) | (then == NO_TIME), buckets)
