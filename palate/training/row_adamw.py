"""AdamW whose step costs what the step has read, for embedding tables with sparse gradients.

AdamW moves a row also in steps in which it has no gradient: by its momentum, and by weight decay. Here such a row
waits, and is brought up to date when it is next read. The result is that of AdamW on the whole table, up to rounding.

With ``m`` and ``v`` of the row's last gradient, at step ``t``, the steps without one up to ``n`` come to

``p_n = D p_t - S m / (sqrt(v) + x eps)``, ``S = sum_s D_s lr_s b1^(s-t) / (1 - b1^s) sqrt((1 - b2^s) / b2^(s-t))``

with ``D`` the decay since ``t``, ``D_s`` the decay after ``s``, and ``x`` the mean of ``sqrt((1 - b2^s) / b2^(s-t))``
by the sum's own weights: exact in the first order of ``eps``, so that a difference is left only where ``sqrt(v)`` is as
small as ``eps``. The factors are the same for all rows that wait since ``t``; a step updates them for each ``t``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

# Steps that a row may wait; then all rows are brought up to date.
_MOST_STEPS = 8192
# Rows that are brought up to date at once, when all are.
_BLOCK_ROWS = 65_536


class WaitingFactors:
    """What the steps since ``t`` have done to a row without a gradient, for each ``t`` of the last steps.

    Attributes:
        values: float64 ``[6, count]``, in columns by ``t``: ``D``, ``S``, ``S x``, and of a running average of the row
            ``average_n = E average_t + P p_t - Q m / (sqrt(v) + x eps)``: ``E``, ``P``, ``Q``.
        step: ``n``; ``t`` of the last column.
    """

    def __init__(self, device: torch.device) -> None:
        self._room = torch.zeros(6, _MOST_STEPS + 1, dtype=torch.float64, device=device)
        self.start(0)

    def start(self, step: int) -> None:
        """No row waits at this step."""
        self.step, self.count = step, 0
        self._open()

    @property
    def values(self) -> Tensor:
        return self._room[:, : self.count]

    @property
    def first(self) -> int:
        """``t`` of the first column."""
        return self.step - self.count + 1

    @property
    def full(self) -> bool:
        """Whether all rows must be brought up to date before the next step."""
        return self.count > _MOST_STEPS

    def _open(self) -> None:
        self._room[:, self.count] = torch.tensor([1.0, 0, 0, 1, 0, 0], dtype=torch.float64)
        self.count += 1

    def advance(self, rate: float, decay: float, betas: tuple[float, float], average: float | None) -> None:
        """One more step.

        Args:
            rate: its learning rate.
            decay: its weight decay.
            average: decay of the running average in this step.
        """
        first, second = betas
        self.step += 1
        left, moved, scaled, _, taken, average_moved = self.values
        waited = torch.arange(self.count, 0, -1, dtype=torch.float64, device=left.device)  # s - t
        bias = (1 - second**self.step) ** 0.5
        momentum = rate / (1 - first**self.step) * bias
        self._room[:3, : self.count] *= 1 - rate * decay
        moved += momentum * (first / second**0.5) ** waited
        scaled += momentum * bias * (first / second) ** waited
        if average is not None:
            self._room[3:, : self.count] *= average
            taken += (1 - average) * left
            average_moved += (1 - average) * moved
        self._open()

    def state(self) -> dict[str, Any]:
        return {"factors": self.values.clone(), "step": self.step}

    def load(self, state: Mapping[str, Any]) -> None:
        self.step, self.count = state["step"], state["factors"].shape[1]
        self._room[:, : self.count] = state["factors"].to(self._room.device)


class RowTable:
    """The rows of one embedding table, what AdamW keeps of each, and until when each is up to date.

    Reading rows through the module brings them up to date; before the weight is read as a whole: :meth:`settle`.

    Args:
        embedding: with sparse gradients, or with gradients of all rows (the step then costs what the table costs).
        betas: the first at most the second.
    """

    def __init__(self, embedding: nn.Embedding, betas: tuple[float, float], eps: float) -> None:
        self.weight, self.betas, self.eps = embedding.weight, betas, eps
        self.exp_avg = torch.zeros_like(self.weight)
        self.exp_avg_sq = torch.zeros_like(self.weight)
        self.current = torch.zeros(len(self.weight), dtype=torch.long, device=self.weight.device)
        self.factors = WaitingFactors(self.weight.device)
        self.average: Tensor | None = None
        self._average_decay: Callable[[], float] = lambda: 1.0
        embedding.register_forward_pre_hook(lambda _, inputs: self.bring_up_to_date(inputs[0]))

    def keep_average(self, average: Tensor, decay: Callable[[], float]) -> None:
        """Update a running average of the weight, shaped like it, whose next step has this decay."""
        self.average, self._average_decay = average, decay

    @torch.no_grad()
    def bring_up_to_date(self, index: Tensor) -> None:
        """Do to the rows ``index`` (int64 ``[n]``) what the steps since their last update would have done."""
        since = self.current.index_select(0, index)
        waiting = since != self.factors.step
        if not bool(waiting.any()):
            return
        index, since = index[waiting], since[waiting]
        factors = self.factors.values.index_select(1, since - self.factors.first)
        scale = torch.where(factors[1] > 0, factors[2] / factors[1], 1.0)
        decay, moved, scale, kept, taken, average_moved = (
            one.to(self.weight.dtype).unsqueeze(1) for one in (*factors[:2], scale, *factors[3:])
        )
        waited = (self.factors.step - since).double().unsqueeze(1)
        first, second = self.exp_avg.index_select(0, index), self.exp_avg_sq.index_select(0, index)
        direction = first / (second.sqrt() + self.eps * scale)
        rows = self.weight.index_select(0, index)
        if self.average is not None:
            averages = kept * self.average.index_select(0, index) + taken * rows - average_moved * direction
            self.average.index_copy_(0, index, averages)
        self.weight.index_copy_(0, index, decay * rows - moved * direction)
        self.exp_avg.index_copy_(0, index, first * (self.betas[0] ** waited).to(first.dtype))
        self.exp_avg_sq.index_copy_(0, index, second * (self.betas[1] ** waited).to(second.dtype))
        self.current.index_fill_(0, index, self.factors.step)

    def settle(self) -> None:
        """Bring all rows up to date."""
        for index in self._blocks():
            self.bring_up_to_date(index)
        self.factors.start(self.factors.step)

    def _blocks(self) -> list[Tensor]:
        """All rows, int64, in parts."""
        index = torch.arange(len(self.weight), device=self.weight.device)
        return list(torch.split(index, _BLOCK_ROWS)) if len(index) else []

    @torch.no_grad()
    def update(self, gradient: Tensor, rate: float, decay: float) -> None:
        """One step of AdamW.

        Args:
            gradient: shaped like the weight; sparse, or of all rows.
        """
        if gradient.is_sparse:
            gradient = gradient.coalesce()
            parts = [(gradient.indices()[0], gradient.values())]
        else:
            parts = [(index, gradient[index[0] : index[-1] + 1]) for index in self._blocks()]
        for index, _ in parts:  # rows that other workers have read
            self.bring_up_to_date(index)
        average = None if self.average is None else self._average_decay()
        self.factors.advance(rate, decay, self.betas, average)
        for index, values in parts:
            self._update_rows(index, values, rate, decay, average)
        if self.factors.full:
            self.settle()

    def _update_rows(self, index: Tensor, values: Tensor, rate: float, decay: float, average: float | None) -> None:
        step, (beta1, beta2) = self.factors.step, self.betas
        first = self.exp_avg.index_select(0, index).lerp_(values, 1 - beta1)
        second = self.exp_avg_sq.index_select(0, index).mul_(beta2).addcmul_(values, values, value=1 - beta2)
        size = (second.sqrt() / (1 - beta2**step) ** 0.5).add_(self.eps)
        rows = self.weight.index_select(0, index).mul_(1 - rate * decay)
        rows.addcdiv_(first, size, value=-rate / (1 - beta1**step))
        self.exp_avg.index_copy_(0, index, first)
        self.exp_avg_sq.index_copy_(0, index, second)
        self.weight.index_copy_(0, index, rows)
        if self.average is not None and average is not None:
            self.average.index_copy_(0, index, self.average.index_select(0, index).lerp_(rows, 1 - average))
        self.current.index_fill_(0, index, step)

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs beside the weight and its average."""
        tensors = {"exp_avg": self.exp_avg, "exp_avg_sq": self.exp_avg_sq, "current": self.current}
        return {**tensors, **self.factors.state()}

    def load(self, state: Mapping[str, Any]) -> None:
        for name in ("exp_avg", "exp_avg_sq", "current"):
            getattr(self, name).copy_(state[name])
        self.factors.load(state)


class RowAdamW(torch.optim.AdamW):
    """AdamW, by rows on the tables of ``embeddings`` and as usual on all else.

    Args:
        groups: parameter groups; the tables are in them like other parameters.
        embeddings: modules whose weights are updated by rows.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        embeddings: Sequence[nn.Embedding],
        *,
        lr: float,
        betas: tuple[float, float],
    ) -> None:
        super().__init__(groups, lr=lr, betas=betas, fused=True)
        # A loss scaler then divides the gradients itself, the sparse ones too.
        self._step_supports_amp_scaling = False
        self.tables = [RowTable(one, betas, self.defaults["eps"]) for one in embeddings]

    def step(self, closure: Any = None) -> Any:
        by_weight = {id(table.weight): table for table in self.tables}
        for group in self.param_groups:
            for parameter in group["params"]:
                table = by_weight.get(id(parameter))
                if table is not None and parameter.grad is not None:
                    table.update(parameter.grad, float(group["lr"]), group["weight_decay"])
                    parameter.grad = None
        return super().step(closure)

    def settle(self) -> None:
        """Bring all rows up to date."""
        for table in self.tables:
            table.settle()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "tables": [table.state() for table in self.tables]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({name: one for name, one in state_dict.items() if name != "tables"})
        for table, state in zip(self.tables, state_dict["tables"], strict=True):
            table.load(state)


@torch.no_grad()
def clip_sparse_norm(
    parameters: Sequence[nn.Parameter],
    largest: float,
    divided: Tensor | None = None,
    total: Callable[[Tensor], Tensor] = lambda values: values,
) -> None:
    """Scale the gradients, some of them sparse, so that their common norm is at most ``largest``.

    All workers find the same factor, to the bit: else what they all have would no longer be the same on each.

    Args:
        divided: a parameter of which each worker has other rows.
        total: the sum of a tensor over all workers.
    """
    values, common = [], []
    everywhere = None
    for parameter in parameters:
        if parameter.grad is None:
            continue
        if parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
        values.append(parameter.grad.values() if parameter.grad.is_sparse else parameter.grad)
        if parameter is divided:
            everywhere = total(values[-1].square().sum()).to(values[-1].device)
        else:
            common.append(values[-1])
    norm = nn.utils.get_total_norm(common)
    if everywhere is not None:
        norm = (norm.square() + everywhere).sqrt()
    factor = (largest / (norm + 1e-6)).clamp_max(1.0)
    for one in values:
        one.mul_(factor)
