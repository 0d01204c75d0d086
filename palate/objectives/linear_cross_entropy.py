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
# A bias up to here multiplies an exponential without harm; a larger one (of neighbours) goes into the logit instead.
_LARGE_BIAS = 20.0
# Logits of one block, as measured on two cores: float32 products are fastest while a block (6 MB) stays in the cache,
# bfloat16 ones want more rows.
_BLOCK_ELEMENTS = {torch.bfloat16: 8_000_000}
_USUAL_BLOCK_ELEMENTS = 1_600_000
# Rows of a block are a multiple of this.
_ROW_STEP = 64
# So are the classes: where a processor multiplies bfloat16 natively, products of other sizes are several times slower.
# float32 products are as fast in any size.
_CLASS_STEP = {torch.bfloat16: 32}


class _BlockBias:
    """The bias of a few logits, put in and differentiated block by block.

    Adding ``v`` to a logit multiplies its exponential by ``exp(v)``; the gradient is the probability, less one at the
    target.
    """

    def __init__(self, rows: Tensor, classes: Tensor, values: Tensor, step: int, count: int) -> None:
        self.rows, self.classes, self.values, self.step = rows, classes, values, step
        self.factors = values.exp()
        self.probabilities = torch.empty_like(values)
        edges = torch.arange(0, count + step, step, device=rows.device)
        self.bounds: list[int] = torch.searchsorted(rows, edges).tolist()

    def _part(self, start: int) -> slice:
        block = start // self.step
        return slice(self.bounds[block], self.bounds[block + 1])

    def apply(self, exponentials: Tensor, start: int) -> None:
        part = self._part(start)
        cells = (self.rows[part] - start, self.classes[part])
        raised = exponentials[cells] * self.factors[part].to(exponentials.dtype)
        exponentials[cells] = raised
        self.probabilities[part] = raised.to(self.values.dtype)

    def add_to(self, logits: Tensor, start: int) -> None:
        """Put the bias into the logits themselves, before a shift: for values whose exponential would not be finite."""
        part = self._part(start)
        logits.index_put_(
            (self.rows[part] - start, self.classes[part]), self.values[part].to(logits.dtype), accumulate=True
        )

    def read(self, exponentials: Tensor, start: int) -> None:
        """What :meth:`apply` keeps, of logits that hold the bias already."""
        part = self._part(start)
        picked = exponentials[self.rows[part] - start, self.classes[part]]
        self.probabilities[part] = picked.to(self.values.dtype)

    def note_probabilities(self, totals: Tensor, start: int) -> None:
        part = self._part(start)
        self.probabilities[part] /= totals[self.rows[part] - start]

    def finish(self, losses: Tensor, targets: Tensor, shares: Tensor) -> Tensor:
        """Take the bias of the targets off the losses, in place; returns the gradient of the values."""
        at_target = self.classes == targets[self.rows]
        losses.index_add_(0, self.rows[at_target], self.values[at_target], alpha=-1)
        return (self.probabilities - at_target.to(self.values.dtype)) * shares[self.rows]


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        items: Tensor,
        targets: Tensor,
        weights: Tensor | None,
        bias_rows: Tensor | None,
        bias_classes: Tensor | None,
        bias_values: Tensor | None,
        dtype: torch.dtype,
        block_elements: int,
    ) -> Tensor:
        count, width = queries.shape
        shares = torch.full_like(queries[:, 0], 1 / count) if weights is None else weights / count
        # Products come in few shapes: kernels that are made for a shape (bfloat16 on CPUs) are cached for each one met.
        padded = queries.new_zeros(-(-count // _ROW_STEP) * _ROW_STEP, width)
        padded[:count] = queries
        # What each query adds to the items' gradient: its share of the loss.
        weighted = torch.zeros_like(padded)
        weighted[:count] = queries * shares.unsqueeze(1)
        step = _CLASS_STEP.get(dtype, 1)
        classes = -(-len(items) // step) * step
        rows = max(1, block_elements // classes // _ROW_STEP) * _ROW_STEP
        rows = min(rows, len(padded))
        safe = bool(queries.norm(dim=1).max() * items.norm(dim=1).max() < _SAFE_LOGIT)
        large = bias_values is not None and bool(len(bias_values)) and float(bias_values.abs().max()) > _LARGE_BIAS
        safe = safe and not large
        low_items, low_queries = items.to(dtype), padded.to(dtype)
        # The items, and a column of ones that makes the row sums of whatever is multiplied with it. The rows that fill
        # up the classes are zero: whatever their exponentials are, no sum has them.
        summing = _filled_up(torch.cat([low_items, low_items.new_ones(len(items), 1)], dim=1), classes)
        low_items = _filled_up(low_items, classes)
        log_totals = padded.new_empty(len(padded))
        query_grad = torch.empty_like(padded)
        item_grad = items.new_zeros(classes, width)
        bias = None
        if bias_rows is not None and bias_classes is not None and bias_values is not None:
            bias = _BlockBias(bias_rows, bias_classes, bias_values, rows, len(padded))
        buffer = torch.empty(rows, classes, dtype=dtype, device=queries.device)
        for start in range(0, len(padded), rows):
            part = slice(start, min(start + rows, len(padded)))
            logits = torch.mm(low_queries[part], low_items.t(), out=buffer[: part.stop - start])
            if bias and large:
                bias.add_to(logits, start)
            if not safe:
                logits[:, len(items) :] = -torch.inf  # no largest logit, and no exponential that is infinite
                shift = logits.amax(1, keepdim=True)
                logits.sub_(shift)
            exponentials = logits.exp_()
            if bias and large:
                bias.read(exponentials, start)
            elif bias:
                bias.apply(exponentials, start)
            sums = torch.mm(exponentials, summing).to(queries.dtype)
            total = sums[:, width:]
            log_totals[part] = total.squeeze(1).log()
            if not safe:
                log_totals[part] += shift.squeeze(1)
            if bias:
                bias.note_probabilities(total.squeeze(1), start)
            torch.div(sums[:, :width], total, out=query_grad[part])
            scaled = weighted[part] / total
            if dtype == items.dtype:
                item_grad.addmm_(exponentials.t(), scaled)
            else:
                item_grad += torch.mm(exponentials.t(), scaled.to(dtype))
        chosen = items.index_select(0, targets)
        losses = log_totals[:count] - (queries * chosen).sum(1)
        bias_grad = bias.finish(losses, targets, shares) if bias else None
        query_grad = query_grad[:count].sub_(chosen).mul_(shares.unsqueeze(1))
        item_grad = item_grad[: len(items)]
        item_grad.index_add_(0, targets, weighted[:count], alpha=-1)
        ctx.save_for_backward(query_grad, item_grad, bias_grad)
        return (losses * shares).sum()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query_grad, item_grad, bias_grad = ctx.saved_tensors
        bias_grad = None if bias_grad is None else bias_grad * grads[0]
        return query_grad * grads[0], item_grad * grads[0], None, None, None, None, bias_grad, None, None


def _filled_up(matrix: Tensor, rows: int) -> Tensor:
    """The matrix with rows of zeros behind its own."""
    return matrix if len(matrix) == rows else torch.nn.functional.pad(matrix, (0, 0, 0, rows - len(matrix)))


def linear_cross_entropy(
    queries: Tensor,
    items: Tensor,
    targets: Tensor,
    weights: Tensor | None = None,
    bias: tuple[Tensor, Tensor, Tensor] | None = None,
    dtype: torch.dtype = torch.float32,
    block_elements: int | None = None,
) -> Tensor:
    """Mean cross-entropy of ``targets`` under ``softmax(queries @ items.T)``.

    Equal to ``torch.nn.functional.cross_entropy(queries @ items.T, targets)``, value and gradients.

    Args:
        queries: float32 ``[T, d]``, at least one row.
        items: float32 ``[n, d]``, every class.
        targets: int64 ``[T]``, rows of ``items``.
        weights: float32 ``[T]``, how much each target counts (None: all alike); their mean should be 1.
        bias: (rows, classes, values), each ``[N]``, rows ascending and no pair twice: ``values`` are added to those
            logits. Within ±20 they cost least.
        dtype: precision of the three matrix products and of ``exp``; float32 is exact, bfloat16 is about twice as
            fast where the processor multiplies it natively. Sums over classes and the picked logit stay float32.
        block_elements: logits held at once; by default what suits the precision.

    >>> q, w = torch.eye(3), torch.eye(3)
    >>> round(float(linear_cross_entropy(q, w, torch.tensor([0, 1, 2]))), 4)
    0.5514
    """
    if block_elements is None:
        block_elements = _BLOCK_ELEMENTS.get(dtype, _USUAL_BLOCK_ELEMENTS)
    loss: Tensor = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
        queries, items, targets, weights, *(bias or (None, None, None)), dtype, block_elements
    )
    return loss
