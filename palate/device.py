"""Which device a model runs on: the word of an option or recipe, checked before any work."""

from __future__ import annotations

import re

from palate.errors import PalateError

_CHOICES = "Choose auto, cpu, cuda, cuda:N (the GPU with that number, from 0) or mps."


def parse_device(name: str) -> str:
    """The device that a name stands for, as torch spells it; ``auto`` is cuda where there is a GPU, else cpu.

    Raises:
        PalateError: no such device, or this machine does not have it.

    >>> parse_device("cpu")
    'cpu'
    >>> parse_device("gpu")
    Traceback (most recent call last):
    palate.errors.PalateError: 'gpu' is no device. Choose auto, cpu, cuda, cuda:N ...
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|mps|cuda(:[0-9]{1,3})?", name):
        raise PalateError(f"'{name}' is no device", _CHOICES)
    if name == "mps" and not torch.backends.mps.is_available():
        raise PalateError("the device 'mps' is not there: it is the GPU of Apple computers", "Use cpu, or auto.")
    if name.startswith("cuda"):
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        number = int(name.partition(":")[2] or 0)
        if not found:
            raise PalateError(f"the device '{name}' is not there: torch finds no GPU", "Use cpu, or auto.")
        if number >= found:
            raise PalateError(f"the device '{name}' is not there: torch finds {found}, from cuda:0", "Use cuda.")
    return name
