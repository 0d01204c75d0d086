"""What one training step costs as the catalogue grows: CPU seconds and peak memory, each size in a process of its own.

    python benchmarks/catalogue_size.py [--items 10000 100000 1000000] [--objective sampled-softmax] [--rows always]

Generated logs: histories of 50 items drawn at random, about 2,000 targets per step; sasrec with d=64. ``--rows`` is
``trainer.item_rows``: ``always`` computes and updates the items of the step, ``never`` the whole table. On a GPU
(``--device cuda``) it is seconds on the clock and the GPU's memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from palate.data.sequences import Sequences, offsets_of
from palate.objectives import OBJECTIVES
from palate.rankers.sasrec import SASRec
from palate.rankers.step import ObjectiveStep
from palate.runs.launch import start_workers
from palate.training.batches import TrainingSequences
from palate.training.config import TrainerConfig
from palate.training.item_rows import read_by_rows
from palate.training.loop import Trainer
from palate.training.whole_batch import WholeBatch

LENGTH = 50


def measure(items: int, options: argparse.Namespace) -> dict[str, float]:
    """Median seconds of a step, first steps left out: CPU seconds, or of a GPU those on the clock."""
    gpu = options.device.startswith("cuda")
    rng = np.random.default_rng(0)
    users = options.targets // LENGTH
    lengths = np.full(users * options.steps, LENGTH + 1)
    sequences = Sequences(rng.integers(1, items + 1, lengths.sum(), dtype=np.int32), offsets_of(lengths))
    torch.manual_seed(0)
    model = SASRec(SASRec.Config(id_dropout=options.id_dropout), items, {})
    config = TrainerConfig(
        batch_size=users, device=options.device, item_rows=options.rows, ema=options.ema, clip_norm=options.clip_norm
    )
    kind = OBJECTIVES[options.objective]
    objective = kind(kind.Config.parse(dict(one.split("=") for one in options.set), where="--set"))
    counts = np.bincount(sequences.values, minlength=items + 1)
    counts[1:] += 1
    data = TrainingSequences(sequences, LENGTH, users, seed=0, fixed=True)
    with tempfile.TemporaryDirectory() as folder:
        step = ObjectiveStep(objective, read_by_rows(model, objective, config, options.targets))
        accelerator = start_workers(config.device)
        trainer = Trainer(
            model=model,
            step=step,
            data=data,
            counts=counts,
            validate=None,
            config=config,
            accelerator=accelerator,
            folder=Path(folder),
            config_hash="benchmark",
        )
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seconds = []
        model.train()
        for number, windows in enumerate(data.batches(1)):
            whole = WholeBatch.agreed(windows, config.recency_half_life, False, trainer.workers)
            if gpu:
                torch.cuda.synchronize()
            started = time.perf_counter() if gpu else time.process_time()
            trainer._train_step(windows, whole, number)
            if gpu:
                torch.cuda.synchronize()
            seconds.append((time.perf_counter() if gpu else time.process_time()) - started)
    facts = {"items": items, "targets": len(windows.targets)}
    milliseconds = round(1e3 * statistics.median(seconds[3:]), 1)
    if gpu:
        return {**facts, "ms": milliseconds, "gpu_peak_mb": round(torch.cuda.max_memory_allocated() / 2**20)}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {**facts, "cpu_ms": milliseconds, "model_mb": round(before / 1024), "peak_mb": round(peak / 1024)}


def options_of(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The options, of the command line or of ``words``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--objective", default="sampled-softmax")
    parser.add_argument("--set", nargs="*", default=[], help="KEY=VALUE of the objective")
    parser.add_argument("--rows", choices=["auto", "always", "never"], default="always")
    parser.add_argument("--targets", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--ema", type=float, default=0.0)
    parser.add_argument("--clip-norm", type=float, default=0.0)
    parser.add_argument("--id-dropout", type=float, default=0.0)
    parser.add_argument("--device", default="cpu")
    return parser.parse_args(words)


def main() -> None:
    options = options_of()
    torch.set_num_threads(1)
    if len(options.items) == 1:
        print(json.dumps(measure(options.items[0], options)), flush=True)
        return
    rest = sys.argv[1:]
    for size in options.items:  # the last --items counts
        subprocess.run([sys.executable, __file__, *rest, "--items", str(size)], check=True)


if __name__ == "__main__":
    main()
