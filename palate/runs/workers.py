"""The processes that train together: which of them this is, and what they have to agree on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from torch import Tensor

Gather = Callable[[Tensor], Tensor]
Rows = TypeVar("Rows", list[int], npt.NDArray[np.int64])


def gather_over(accelerator: Accelerator) -> Gather | None:
    """A function that joins the 1-d tensors of all workers, whose lengths may differ; None for a lone worker."""
    if accelerator.num_processes == 1:
        return None

    def gather(values: Tensor) -> Tensor:
        length = torch.tensor([len(values)], device=values.device)
        lengths = accelerator.gather(length).tolist()
        padded = accelerator.pad_across_processes(values, dim=0)
        parts = accelerator.gather(padded).view(len(lengths), max(lengths))
        return torch.cat([part[:n] for part, n in zip(parts, lengths, strict=True)])

    return gather


@dataclass(frozen=True)
class Workers:
    """The processes that train together. All of them call the methods together.

    Attributes:
        index: this one's number; 0 writes files.
        count: how many they are.
        device: where this one computes.
        gather: see :func:`gather_over`.
        wait: returns once all of them have called it.
    """

    index: int = 0
    count: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009  (immutable)
    gather: Gather | None = None
    wait: Callable[[], None] = lambda: None

    @classmethod
    def of(cls, accelerator: Accelerator) -> Workers:
        return cls(
            accelerator.process_index,
            accelerator.num_processes,
            accelerator.device,
            gather_over(accelerator),
            accelerator.wait_for_everyone,
        )

    @property
    def main(self) -> bool:
        """Whether this is the worker that writes."""
        return self.index == 0

    def share(self, rows: Rows) -> Rows:
        """This worker's part of a list or an array that all workers have in the same order."""
        mine: Rows = rows[self.index :: self.count]
        return mine

    def total(self, values: Tensor) -> Tensor:
        """The sum over all workers of tensors of one shape, on the CPU."""
        return values if self.gather is None else self._all(values).sum(0)

    def first(self, values: Tensor) -> Tensor:
        """The first worker's tensor, on the CPU, where all have one of the same shape."""
        return values if self.gather is None else self._all(values)[0]

    def _all(self, values: Tensor) -> Tensor:
        assert self.gather is not None
        return self.gather(values.flatten().to(self.device)).cpu().view(self.count, *values.shape)
