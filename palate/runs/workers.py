"""The processes that train together: which of them this is, and what they have to agree on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

Gather = Callable[[Tensor], Tensor]
Rows = TypeVar("Rows", list[int], npt.NDArray[np.int64])


def stream_seed(seed: int, worker: int, step: int = 0) -> int:
    """The seed of a worker's own random streams; a lone worker's, and the first one's, is the run's.

    Args:
        step: where the streams begin anew: a checkpoint that has none for this worker.

    >>> stream_seed(7, 0), stream_seed(7, 1) != stream_seed(7, 2) != 7
    (7, True)
    """
    if worker == 0 and step == 0:
        return seed
    return int(np.random.SeedSequence([seed, worker, step]).generate_state(1, np.uint64)[0] >> 1)


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

    def whole(self, mine: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What :meth:`share` has dealt out, one number per row, in the order that it had."""
        if self.gather is None:
            return mine
        parts = self.gather(torch.from_numpy(mine).to(self.device)).cpu().numpy()
        joined, end = np.empty_like(parts), 0
        for index in range(self.count):
            rows = joined[index :: self.count]
            begin, end = end, end + len(rows)
            rows[:] = parts[begin:end]
        return joined

    def each(self, value: Any) -> list[Any]:
        """What each worker has, in the order of their numbers."""
        return [value] if self.count == 1 else list(gather_object([value]))

    def total(self, values: Tensor) -> Tensor:
        """The sum over all workers of tensors of one shape, on the CPU."""
        return values if self.gather is None else self._all(values).sum(0)

    def first(self, values: Tensor) -> Tensor:
        """The first worker's tensor, on the CPU, where all have one of the same shape."""
        return values if self.gather is None else self._all(values)[0]

    def _all(self, values: Tensor) -> Tensor:
        assert self.gather is not None
        return self.gather(values.flatten().to(self.device)).cpu().view(self.count, *values.shape)
