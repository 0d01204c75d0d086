"""Cross-entropy over a whole catalogue without ever holding the matrix of logits.

``loss[t] = log sum_i exp(q[t] @ w[i]) - q[t] @ w[y[t]]``

The gradients are made in the forward pass, a block of rows at a time, so that one block of logits stays in the
processor's cache. What is left beside the three matrix products that the mathematics needs (logits, the queries'
gradient, the items' gradient) is a single pass of ``exp``:

* no maximum is subtracted while ``|q| |w|`` bounds every logit so that ``exp`` can neither overflow nor vanish;
* the normaliser divides the small factors (``[T, d]``), never the big matrix;
* the row sums come out of a matrix product, through a column of ones beside the items.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# exp(40) * 10^7 items is far below the largest float32, exp(-40) far above the smallest.
_SAFE_LOGIT = 40.0
# Logits of one block: 8 million floats, 32 MB in float32.
_BLOCK_ELEMENTS = 8_000_000


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, items: Tensor, targets: Tensor, dtype: torch.dtype, block_elements: int
    ) -> Tensor:
        count, width = queries.shape
        rows = max(64, min(count, block_elements // len(items)))
        safe = bool(queries.norm(dim=1).max() * items.norm(dim=1).max() < _SAFE_LOGIT)
        low_items = items.to(dtype)
        transposed = low_items.t()
        # The items, and a column of ones that makes the row sums of whatever is multiplied with it.
        summing = torch.cat([low_items, low_items.new_ones(len(items), 1)], dim=1)
        losses = queries.new_empty(count)
        query_grad = torch.empty_like(queries)
        item_grad = torch.zeros_like(items)
        buffer = torch.empty(rows, len(items), dtype=dtype, device=queries.device)
        for start in range(0, count, rows):
            part = slice(start, min(start + rows, count))
            query, target = queries[part], targets[part]
            logits = torch.mm(query.to(dtype), transposed, out=buffer[: len(query)])
            chosen = items.index_select(0, target)
            picked = (query * chosen).sum(1)
            if safe:
                shift = torch.zeros_like(picked)
            else:
                shift = logits.amax(1).to(picked.dtype)
                logits.sub_(shift.to(dtype).unsqueeze(1))
            exponentials = logits.exp_()
            sums = torch.mm(exponentials, summing).to(queries.dtype)
            total = sums[:, width]
            losses[part] = total.log() + shift - picked
            torch.div(sums[:, :width], total.unsqueeze(1), out=query_grad[part])
            query_grad[part] -= chosen
            scaled = query / total.unsqueeze(1)
            if dtype == items.dtype:
                item_grad.addmm_(exponentials.t(), scaled)
            else:
                item_grad += torch.mm(exponentials.t(), scaled.to(dtype))
            item_grad.index_add_(0, target, query, alpha=-1)
        ctx.save_for_backward(query_grad.div_(count), item_grad.div_(count))
        return losses.mean()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query_grad, item_grad = ctx.saved_tensors
        return query_grad * grads[0], item_grad * grads[0], None, None, None


def linear_cross_entropy(
    queries: Tensor,
    items: Tensor,
    targets: Tensor,
    dtype: torch.dtype = torch.float32,
    block_elements: int = _BLOCK_ELEMENTS,
) -> Tensor:
    """Mean cross-entropy of ``targets`` under ``softmax(queries @ items.T)``.

    Equal to ``torch.nn.functional.cross_entropy(queries @ items.T, targets)``, value and gradients.

    Args:
        queries: float32 ``[T, d]``, at least one row.
        items: float32 ``[n, d]``, every class.
        targets: int64 ``[T]``, rows of ``items``.
        dtype: precision of the three matrix products and of ``exp``; float32 is exact, bfloat16 is about twice as
            fast where the processor multiplies it natively. Sums over classes and the picked logit stay float32.
        block_elements: logits held at once.

    >>> q, w = torch.eye(3), torch.eye(3)
    >>> round(float(linear_cross_entropy(q, w, torch.tensor([0, 1, 2]))), 4)
    0.5514
    """
    loss: Tensor = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
        queries, items, targets, dtype, block_elements
    )
    return loss
