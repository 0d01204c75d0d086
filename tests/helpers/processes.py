"""Programs that run as several workers, as under ``torchrun``."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import torch.distributed as dist


def start(count: int, words: list[str]) -> None:
    """Run a program as ``count`` workers, and wait for all of them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count), "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(
            [sys.executable, *words],
            env={**os.environ, **address, "RANK": str(index), "LOCAL_RANK": str(index)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(count)
    ]
    try:
        said = [worker.communicate(timeout=600)[1] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0] * count, "\n".join(said)


def end_together() -> None:
    """The last thing that a worker does: gloo's threads may abort a process that ends while others still talk to it."""
    dist.barrier()
    dist.destroy_process_group()
