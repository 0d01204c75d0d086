"""The state of torch's global generators, to draw the same numbers twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class RandomState:
    """What dropout draws from, on the CPU and on the device of the model.

    >>> state = RandomState.of(torch.device("cpu"))
    >>> first = torch.rand(3)
    >>> with state.replayed():
    ...     again = torch.rand(3)
    >>> torch.equal(first, again)
    True
    """

    cpu: Tensor
    cuda: Tensor | None
    device: torch.device

    @classmethod
    def of(cls, device: torch.device) -> RandomState:
        """The state now."""
        cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        return cls(torch.get_rng_state(), cuda, device)

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """Draw once more what was drawn after the state was taken; afterwards draws go on as if nothing had been."""
        devices = [self.device] if self.cuda is not None else []
        with torch.random.fork_rng(devices=devices):
            torch.set_rng_state(self.cpu)
            if self.cuda is not None:
                torch.cuda.set_rng_state(self.cuda, self.device)
            yield
