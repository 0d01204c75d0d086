"""The normaliser of a softmax over a part of the catalogue, without ever holding the matrix of logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# Logits of one block, and its least rows: each block reads all items' vectors and gradients once.
_BLOCK_ELEMENTS, _LEAST_ROWS = 1_600_000, 64


class _LinearLogSumExp(torch.autograd.Function):
    """The logits of a block are made twice: the gradient of the value is known only when the other parts are."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, items: Tensor, known: Tensor | None) -> Tensor:
        if known is None:
            parts = [torch.logsumexp(block @ items.T, dim=1) for block in torch.split(queries, _rows(items))]
            totals = torch.cat(parts)
        else:
            totals = known.clone()
        ctx.save_for_backward(queries, items, totals)
        return totals

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        queries, items, totals = ctx.saved_tensors
        query_grad, item_grad = torch.empty_like(queries), torch.zeros_like(items)
        rows = _rows(items)
        for start in range(0, len(queries), rows):
            part = slice(start, start + rows)
            weights = torch.mm(queries[part], items.T).sub_(totals[part].unsqueeze(1)).exp_()
            weights.mul_(gradients[0][part].unsqueeze(1))
            query_grad[part] = weights @ items
            item_grad.addmm_(weights.T, queries[part])
        return query_grad, item_grad, None


def _rows(items: Tensor) -> int:
    return max(_LEAST_ROWS, _BLOCK_ELEMENTS // max(1, len(items)))


def linear_log_sum_exp(queries: Tensor, items: Tensor, known: Tensor | None = None) -> Tensor:
    """``log sum_i exp(queries[t] @ items[i])``, float32 ``[T]``; ``-inf`` where there are no items.

    Args:
        queries: float32 ``[T, d]``, at least one row.
        items: float32 ``[n, d]``.
        known: the result, where it was computed before and only the gradients are needed.

    >>> linear_log_sum_exp(torch.zeros(2, 3), torch.zeros(4, 3)).exp()
    tensor([4., 4.])
    """
    totals: Tensor = _LinearLogSumExp.apply(queries, items, known)  # type: ignore[no-untyped-call]
    return totals
