"""What two steps of a cluster cost, measured on processes of one machine, with a model fitted to it.

    python benchmarks/scale_model.py --processes 2 4 8 --out scale.json

*Shuffle*: rows of a log (user, item, time: 16 bytes) go to the process that holds their user, and are sorted there.
*Sharded step*: a table of items is split over the processes; each reads the vectors of its batch's items from all of
them and sends the gradients back. Processes talk by gloo over sockets of this machine, so that seconds of processor
time, of all threads and of the kernel, are measured and not waiting. The model is ``seconds = fixed + work * per_row +
bytes * per_byte``, non-negative, where work is the number of rows, times ``log2`` of it over that of a million where
they are sorted. It is fitted over all sizes and numbers of processes; its residuals are printed beside the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import socket
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

ROW = np.dtype([("user", "<u4"), ("item", "<u4"), ("time", "<i8")])
REPEATS = 3


@dataclass(frozen=True)
class Measured:
    """One step, mean over its processes.

    Attributes:
        rows: rows that each process works on.
        sent: bytes that each process sends to others.
        seconds: of processor time, of each process, median of the repeats.
    """

    step: str
    processes: int
    rows: int
    sent: int
    seconds: float


def processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def exchange(parts: list[Tensor]) -> list[Tensor]:
    """Send ``parts[r]``, uint8, to process ``r``; what all of them sent to this one."""
    sizes = torch.tensor([len(part) for part in parts])
    incoming = torch.empty_like(sizes)
    dist.all_to_all_single(incoming, sizes)
    received = torch.empty(int(incoming.sum()), dtype=torch.uint8)
    dist.all_to_all_single(received, torch.cat(parts), incoming.tolist(), sizes.tolist())
    return list(received.split(incoming.tolist()))


def shuffle(rows: int, rng: np.random.Generator) -> Callable[[], int]:
    """A step that sends rows to the process of their user; it returns the bytes that left this process."""
    log = np.empty(rows, ROW)
    log["user"] = rng.integers(0, 2**32, rows, dtype=np.uint32)
    log["item"] = rng.integers(0, 2**32, rows, dtype=np.uint32)
    log["time"] = rng.integers(0, 2**40, rows)

    def step() -> int:
        count, rank = dist.get_world_size(), dist.get_rank()
        owner = log["user"] % count
        order = np.argsort(owner, kind="stable")
        ends = np.cumsum(np.bincount(owner, minlength=count))
        parts = [torch.from_numpy(part.view(np.uint8)) for part in np.split(log[order], ends[:-1])]
        mine = np.concatenate([part.numpy().view(ROW) for part in exchange(parts)])
        mine[np.lexsort((mine["time"], mine["user"]))]
        return sum(len(part) for part in parts) - len(parts[rank])

    return step


def sharded_step(rows: int, rng: np.random.Generator, dim: int = 64, items: int = 400_000) -> Callable[[], int]:
    """A step that reads ``rows`` vectors of a split table and adds their gradients to it."""
    count, rank = dist.get_world_size(), dist.get_rank()
    table = torch.zeros(items // count + 1, dim)
    read = torch.from_numpy(np.sort(rng.integers(0, items, rows)))

    def step() -> int:
        owner = read % count
        order = torch.argsort(owner, stable=True)
        ends = torch.bincount(owner, minlength=count).tolist()
        requests = exchange([part.contiguous().view(torch.uint8) for part in read[order].split(ends)])
        indices = [part.view(torch.int64) // count for part in requests]
        found = exchange([table[index].flatten().view(torch.uint8) for index in indices])
        vectors = torch.cat([part.view(torch.float32) for part in found]).view(-1, dim)
        gradient = (vectors * 2 + 1).split(ends)
        back = exchange([part.contiguous().flatten().view(torch.uint8) for part in gradient])
        for index, part in zip(indices, back, strict=True):
            table.index_add_(0, index, part.view(torch.float32).view(-1, dim), alpha=-1e-3)
        others = rows - ends[rank]
        answered = sum(len(index) for index in indices) - len(indices[rank])
        return others * (8 + 4 * dim) + answered * 4 * dim

    return step


STEPS: dict[str, Callable[..., Callable[[], int]]] = {"shuffle": shuffle, "sharded step": sharded_step}
SIZES = {"shuffle": (200_000, 800_000, 2_000_000), "sharded step": (5_000, 20_000, 60_000)}


def work(rank: int, count: int, port: int, queue: Any) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=count)
    for name, make in STEPS.items():
        for total in SIZES[name]:
            rows = total // count * 2  # as many rows over all processes, twice what one of two has
            step = make(rows, np.random.default_rng([rank, rows]))
            step()
            seconds, sent = [], 0
            for _ in range(REPEATS):
                dist.barrier()
                before = processor_seconds()
                sent = step()
                seconds.append(processor_seconds() - before)
            both = torch.tensor([statistics.median(seconds), float(sent)], dtype=torch.float64)
            dist.all_reduce(both)
            if rank == 0:
                spent, moved = (both / count).tolist()
                queue.put(Measured(name, count, rows, round(moved), spent))
    dist.destroy_process_group()


def measure(count: int) -> list[Measured]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    queue = mp.get_context("spawn").SimpleQueue()
    mp.spawn(work, (count, port, queue), nprocs=count)
    found = []
    while not queue.empty():
        found.append(queue.get())
    return found


def fit(measured: list[Measured]) -> dict[str, float]:
    """The linear model of one step, and how far it is off."""
    from scipy.optimize import nnls

    features, seconds = features_of(measured)
    weights = 1 / seconds  # relative errors count, so that small sizes are not forgotten
    scale = features.max(0)
    found, _ = nnls(features / scale * weights[:, None], seconds * weights)
    fixed, per_row, per_byte = found / scale
    off = np.abs(features @ (found / scale) / seconds - 1)
    return {
        "fixed_seconds": float(fixed),
        "seconds_per_million_rows": float(per_row * 1e6),
        "seconds_per_gb_sent": float(per_byte * 2**30),
        "mean_residual": float(off.mean()),
        "largest_residual": float(off.max()),
    }


def features_of(measured: list[Measured]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """What the model multiplies, float64 ``[steps, 3]``, and the seconds of each step."""
    sorted_ = np.array([one.step == "shuffle" for one in measured])
    rows = np.array([one.rows for one in measured], dtype=float)
    work_done = np.where(sorted_, rows * np.log2(rows) / np.log2(1e6), rows)
    features = np.column_stack([np.ones(len(rows)), work_done, [one.sent for one in measured]])
    return features, np.array([one.seconds for one in measured])


def held_out_residual(measured: list[Measured]) -> float:
    """Mean residual at the largest number of processes, of a model that is fitted to the smaller ones."""
    most = max(one.processes for one in measured)
    model = fit([one for one in measured if one.processes < most])
    features, seconds = features_of([one for one in measured if one.processes == most])
    factors = model["fixed_seconds"], model["seconds_per_million_rows"] / 1e6, model["seconds_per_gb_sent"] / 2**30
    return float(np.abs(features @ np.array(factors) / seconds - 1).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    measured = [one for count in options.processes for one in measure(count)]
    facts: dict[str, Any] = {"measured": [asdict(one) for one in measured], "models": {}}
    for one in measured:
        size = f"{one.rows:,} rows, {one.sent:,} bytes sent"
        print(f"{one.step}, {one.processes} processes: {size}: {one.seconds:.4f} s each")
    for name in STEPS:
        of_step = [one for one in measured if one.step == name]
        facts["models"][name] = model = fit(of_step)
        if len(options.processes) > 1:
            model["held_out_residual"] = held_out_residual(of_step)
        print(name, json.dumps({key: float(f"{value:.3g}") for key, value in model.items()}))
    if options.out:
        options.out.write_text(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
