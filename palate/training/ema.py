"""An exponential moving average of the weights, which is validated and saved in their place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """``average <- decay * average + (1 - decay) * weight`` after each step.

    Args:
        forget: early steps use a smaller decay, so that untrained weights are soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float, forget: bool = True) -> None:
        self.decay, self.forget = decay, forget
        self.steps = 0
        self.shadow = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self.steps += 1
        # (1 + t) / (10 + t) lets the average forget the untrained start.
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps)) if self.forget else self.decay
        for name, parameter in model.named_parameters():
            if name in self.shadow:
                self.shadow[name].lerp_(parameter.detach(), 1 - decay)

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
