"""How large a ranker would be, found out before it is made, so that impossible sizes are refused at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from palate.device import parse_device
from palate.errors import PalateError
from palate.rankers.config import TrainedConfig

# A parameter in single precision, its gradient and the two averages that Adam keeps of it.
_BYTES = 4 * 4
# What each tensor costs beside its numbers: the module around it, the optimizer's entry.
_BYTES_OF_TENSOR = 8192
_SIZES = ("dim", "layers", "hidden", "experts", "max_length", "whiten", "time_buckets", "levels", "codebook")
_CGROUP = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True)
class Size:
    """Parameters of a model, in numbers and in tensors."""

    parameters: int
    tensors: int

    @property
    def bytes(self) -> int:
        """What training takes for them."""
        return _BYTES * self.parameters + _BYTES_OF_TENSOR * self.tensors


def check_size(kind: Any, config: TrainedConfig, num_items: int, widths: Mapping[str, int], device: str) -> None:
    """Refuse a ranker whose parameters cannot fit.

    Raises:
        PalateError: training them takes more memory than the device has.
    """
    size, has = size_of(kind, config, num_items, widths), memory_of(device)
    if has is None or (size is not None and size.bytes <= has):
        return
    sizes = ", ".join(
        f"ranker.{name}={value}" for name in _SIZES if (value := getattr(config, name, None)) not in (None, 0)
    )
    takes = (
        f"{size.parameters:,} parameters, and training them takes {_gib(size.bytes)}"
        if size
        else "more parameters than can be counted"
    )
    raise PalateError(
        f"a ranker of {num_items:,} items with {sizes} has {takes}; the device has {_gib(has)} of memory",
        "Lower these sizes.",
    )


def _gib(number: int) -> str:
    return f"{number / 2**30:,.1f} GiB"


def size_of(kind: Any, config: TrainedConfig, num_items: int, widths: Mapping[str, int]) -> Size | None:
    """The size of a ranker, without making it; None where there is no number for it.

    Layers are alike, so that those of a deep one are counted in one of two and one of a single layer.
    """
    layers = getattr(config, "layers", 0)
    if layers <= 2:
        return _count(kind, config, num_items, widths)
    one, two = (_count(kind, config.model_copy(update={"layers": number}), num_items, widths) for number in (1, 2))
    if one is None or two is None:
        return None
    more = layers - 2
    return Size(
        two.parameters + more * (two.parameters - one.parameters), two.tensors + more * (two.tensors - one.tensors)
    )


def _count(kind: Any, config: TrainedConfig, num_items: int, widths: Mapping[str, int]) -> Size | None:
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            model: nn.Module = kind(config, num_items, widths)
    except PalateError:
        raise
    except (RuntimeError, OverflowError, TypeError, MemoryError) as error:
        if "overflow" in str(error).lower() or isinstance(error, OverflowError | MemoryError):
            return None
        return Size(0, 0)  # a plug-in that cannot be made without numbers: nothing is known of it
    sizes = [parameter.numel() for parameter in model.parameters()]
    return Size(sum(sizes), len(sizes))


def memory_of(device: str) -> int | None:
    """Bytes that a device has in all; None where the system does not say.

    A container's limit counts as the machine's.
    """
    place = parse_device(device)
    if place.startswith("cuda"):
        return int(torch.cuda.get_device_properties(torch.device(place)).total_memory)
    try:
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
    try:
        return min(whole, int(_CGROUP.read_text(encoding="ascii")))
    except (OSError, ValueError):  # no container, or one without a limit
        return whole
