"""Starting as one of several workers: what ``torchrun`` and ``accelerate launch`` say in the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState

from palate.device import parse_device
from palate.errors import PalateError

# What a launcher that starts several processes says to each; the last three are of MPI.
_NUMBERED = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")


def start_workers(device: str, precision: str = "no") -> Accelerator:
    """The accelerator of this process: alone, or one of several that ``torchrun`` or ``accelerate launch`` started.

    Args:
        device: see :func:`palate.device.parse_device`.
        precision: of automatic mixed precision: ``no``, ``bf16`` or ``fp16``.

    Raises:
        PalateError: no such device, or a launcher that was to start several processes and has started one.
    """
    check_launcher(os.environ)
    # Accelerate keeps one state per process; a second run in the same process may want another precision.
    AcceleratorState._reset_state()
    name = parse_device(device)
    if name.startswith("cuda:"):
        torch.cuda.set_device(name)
    # Buffers are the same in all workers from the start: features, which are large and never change.
    wrapper = DistributedDataParallelKwargs(broadcast_buffers=False)
    return Accelerator(cpu=name == "cpu", mixed_precision=precision, kwargs_handlers=[wrapper])


def is_first_worker() -> bool:
    """Whether this process prints and writes: alone, or the first of those that a launcher started."""
    return os.environ.get("RANK", "0") == "0"


def check_launcher(environment: Mapping[str, str]) -> None:
    """Refuse to train alone where ``accelerate launch --cpu --num_processes N`` was to start N processes.

    On a CPU it starts one, without MPI, and sets an address at which nobody else will ever call.

    >>> check_launcher({"ACCELERATE_MIXED_PRECISION": "no", "MASTER_ADDR": "127.0.0.1"})
    Traceback (most recent call last):
    palate.errors.PalateError: accelerate launch was to start several processes, and has started one ...
    """
    by_accelerate = "ACCELERATE_MIXED_PRECISION" in environment and "MASTER_ADDR" in environment
    if by_accelerate and not any(name in environment for name in _NUMBERED):
        raise PalateError(
            "accelerate launch was to start several processes, and has started one (on a CPU it needs MPI)",
            "Start them with torchrun: torchrun --nproc-per-node 2 -m palate train ...",
        )
