"""An exponential moving average of the weights, which is validated and saved in their place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from palate.training.row_adamw import RowTable


class WeightAverage:
    """``average <- decay * average + (1 - decay) * weight`` after each step.

    Args:
        forget: early steps use a smaller decay, so that untrained weights are soon forgotten.
        tables: parameters that are updated by rows, and their averages with them.
    """

    def __init__(self, model: nn.Module, decay: float, forget: bool = True, tables: Sequence[RowTable] = ()) -> None:
        self.decay, self.forget = decay, forget
        self.steps = 0
        self.shadow = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
        by_weight = {id(table.weight): table for table in tables}
        self._by_rows = {name for name, p in model.named_parameters() if id(p) in by_weight}
        for name, parameter in model.named_parameters():
            if name in self._by_rows:
                by_weight[id(parameter)].keep_average(self.shadow[name], self._next_decay)

    def _next_decay(self) -> float:
        # (1 + t) / (10 + t) lets the average forget the untrained start.
        steps = self.steps + 1
        return min(self.decay, (1 + steps) / (10 + steps)) if self.forget else self.decay

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        decay = self._next_decay()
        self.steps += 1
        for name, parameter in model.named_parameters():
            if name in self.shadow and name not in self._by_rows:
                self.shadow[name].lerp_(parameter.detach(), 1 - decay)

    def load(self, shadow: Mapping[str, Tensor], steps: int) -> None:
        """Go on from a checkpoint."""
        self.steps = steps
        for name, value in shadow.items():
            self.shadow[name].copy_(value)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """The model with the averaged weights, for the length of the block."""
        originals: dict[str, Tensor] = {}
        parameters = dict(model.named_parameters())
        with torch.no_grad():
            for name, value in self.shadow.items():
                originals[name] = parameters[name].detach().clone()
                parameters[name].copy_(value)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in originals.items():
                    parameters[name].copy_(value)
