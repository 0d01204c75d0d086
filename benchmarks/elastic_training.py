"""Kill a worker of a training on two "nodes" of this machine, and compare with a training that nobody disturbs.

    python benchmarks/elastic_training.py [--users 2000] [--items 500] [--epochs 6] [--folder FOLDER]

Two agents of ``torchrun`` with a rendezvous at this machine start one worker each, on the CPU, with dropout and drawn
negatives. In the second training the worker of the second agent is killed (SIGKILL) after two epochs: both agents start
their workers again, which go on from the checkpoint. Losses, metrics and weights have to be equal to the bit.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil
from safetensors.numpy import load_file

from palate.data.frames import from_frames

_TIMES = {"train_seconds", "eval_seconds", "targets_per_second", "peak_memory_mb"}
_AGENTS = 2


def make_dataset(folder: Path, users: int, items: int) -> None:
    """Users who walk along a ring of items, with noise."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(5, 40, users)
    rows = [(rng.integers(items) + np.cumsum(rng.choice([1, 2, 7], n, p=[0.7, 0.2, 0.1]))) % items for n in lengths]
    log = pl.DataFrame({"user": np.repeat(np.arange(users), lengths), "item": np.concatenate(rows)})
    from_frames(log, name="ring").save(folder)


def start_agents(dataset: Path, out: Path, epochs: int) -> list[subprocess.Popen[bytes]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    torchrun = f"--nnodes {_AGENTS} --nproc-per-node 1 --max-restarts 3 --rdzv-backend c10d --rdzv-id run"
    train = (
        f"-m palate train {dataset} --model sasrec --modalities id --neighbours none --objective sampled-softmax "
        f"--epochs {epochs} --device cpu --threads 1 --set ranker.dim=32 --set trainer.batch_size=64 --out {out} "
        "--resume"
    )
    words = [*torchrun.split(), "--rdzv-endpoint", address, *train.split()]
    command = [sys.executable, "-m", "torch.distributed.run", *words]
    log = (out.parent / f"{out.name}.log").open("wb")
    # Workers that start again meet in a new store. In the agents', which they share otherwise, they would read the
    # addresses of the workers before them.
    environment = {**os.environ, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    return [subprocess.Popen(command, stdout=log, stderr=log, env=environment) for _ in range(_AGENTS)]


def rows_of(run: Path) -> list[dict[str, Any]]:
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [{name: value for name, value in json.loads(line).items() if name not in _TIMES} for line in lines]


def kill_worker(agent: subprocess.Popen[bytes], run: Path, after: int) -> None:
    """Kill the agent's worker once so many epochs are done."""
    while len(rows_of(run)) < after:
        if agent.poll() is not None:
            raise SystemExit(f"an agent ended early: see {run}.log")
        time.sleep(0.5)
    (worker,) = psutil.Process(agent.pid).children()
    os.kill(worker.pid, signal.SIGKILL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--folder", type=Path, help="keep the runs here; by default they are removed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        make_dataset(folder / "data", options.users, options.items)
        seconds = {}
        for name in ("undisturbed", "killed"):
            began = time.perf_counter()
            agents = start_agents(folder / "data", folder / name, options.epochs)
            if name == "killed":
                kill_worker(agents[-1], folder / name, 2)
            codes = [agent.wait() for agent in agents]
            seconds[name] = round(time.perf_counter() - began, 1)
            if any(codes):
                raise SystemExit((folder / f"{name}.log").read_text())
        runs = [folder / name for name in seconds]
        weights = [load_file(run / "model" / "weights.safetensors") for run in runs]
        facts = {
            "seconds": seconds,
            "rows": [len(rows_of(run)) for run in runs],
            "rows_equal": rows_of(runs[0]) == rows_of(runs[1]),
            "weights_equal": all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0]),
            "last": rows_of(runs[1])[-1],
        }
    print(json.dumps(facts, indent=2))
    if not (facts["rows_equal"] and facts["weights_equal"]):
        raise SystemExit("the killed training ended with other numbers")


if __name__ == "__main__":
    main()
