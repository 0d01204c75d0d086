"""What several workers have to agree on."""

from __future__ import annotations

from collections.abc import Callable

import torch
from accelerate import Accelerator
from torch import Tensor

Gather = Callable[[Tensor], Tensor]


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
