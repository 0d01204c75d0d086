"""What a worker holds and a step costs when the rows of a large id table are divided among the workers.

    python benchmarks/sharded_table.py [--items 2000000] [--targets 2000] [--steps 15] [--full-softmax]
        [--validate 1000] [--files]

Trains a few steps of sasrec (d=64) with a sampled softmax (``--full-softmax``: the cross-entropy over all items) on
generated histories: one worker with the whole table, two workers with the whole table each, and two with half of its
rows each. Steps have the same targets in all, divided among the workers. CPU only; one thread per worker.

``--validate`` also ranks the targets of this many users: with a sharded table each worker counts among its own items;
otherwise it ranks a part of the users among all. ``--files`` gathers the whole model into files, as after the best
validation so far, and ranks the users a second time as was done before each worker counted among its own items: a part
of the users each, by the vectors in these files.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from palate.data.dataset import Cases
from palate.data.sequences import Sequences, offsets_of
from palate.evaluation.ranking import rank_targets
from palate.objectives.cross_entropy import CrossEntropy
from palate.objectives.sampled_softmax import SampledSoftmax, SampledSoftmaxConfig
from palate.rankers.sasrec import SASRec
from palate.rankers.sequential import SequentialRanker
from palate.rankers.sharded_ids import RowShare, sharded, sharded_ids
from palate.runs.launch import start_workers
from palate.runs.workers import Workers
from palate.training.batches import TrainingSequences
from palate.training.config import TrainerConfig
from palate.training.item_rows import read_by_rows
from palate.training.loop import Trainer
from palate.training.whole_batch import WholeBatch
from palate.training.whole_model import save_whole

LENGTH = 50


def memory_mb(name: str) -> int:
    """A line of what Linux says of this process: ``RssAnon`` (memory of its own), ``VmHWM`` (the most so far)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith(f"{name}:"))


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One worker's memory and median CPU time of a step, first steps left out."""
    base = memory_mb("RssAnon")
    config = TrainerConfig.model_validate(
        {
            "batch_size": options.targets // LENGTH,
            "device": "cpu",
            "item_rows": "auto" if options.full_softmax else "always",
            "item_table": options.table,
            "tensorboard": False,
        }
    )
    accelerator = start_workers(config.device)
    workers = Workers.of(accelerator)
    rng = np.random.default_rng(0)
    lengths = np.full(config.batch_size * options.steps, LENGTH + 1)
    sequences = Sequences(rng.integers(1, options.items + 1, lengths.sum(), dtype=np.int32), offsets_of(lengths))
    torch.manual_seed(0)
    with sharded(RowShare(workers.index, workers.count) if options.table == "sharded" else None):
        model = SASRec(SASRec.Config(), options.items, {})
    objective = CrossEntropy() if options.full_softmax else SampledSoftmax(SampledSoftmaxConfig(num_negatives=512))
    step = model.training_step(objective, read_by_rows(model, objective, config, options.targets))
    counts = np.ones(options.items + 1, np.int64)
    data = TrainingSequences(sequences, LENGTH, config.batch_size, seed=0, fixed=True)
    trainer = Trainer(
        model=model,
        step=step,
        data=data,
        counts=counts,
        validate=None,
        config=config,
        accelerator=accelerator,
        folder=folder,
        config_hash="benchmark",
    )
    model.train()
    seconds = []
    for number, windows in enumerate(data.batches(1, share=workers.index, shares=workers.count)):
        started = time.process_time()
        whole = WholeBatch.agreed(windows, config.recency_half_life, False, trainer.workers)
        trainer._train_step(windows, whole, number)
        seconds.append(time.process_time() - started)
    kept = [one for one in model.parameters() if one.numel() > options.items] * 3  # and two averages
    kept += [table.current for table in trainer.by_rows.tables] if trainer.by_rows else []
    found = {
        "worker": workers.index,
        "targets": len(windows.targets),
        "cpu_ms_per_step": round(1e3 * statistics.median(seconds[3:]), 1),
        "table_mb": sum(one.numel() * one.element_size() for one in kept) // 2**20,
        "libraries_mb": base,
        "memory_mb": memory_mb("RssAnon"),
        "peak_mb": memory_mb("VmHWM"),
    }
    model.eval()
    cases = validation_cases(options)
    if options.validate:
        found["validation"] = ranked(model, cases, workers)
    if options.files and sharded_ids(model) is not None:
        model._table = None
        started = time.process_time()
        save_whole(model, folder if workers.main else None)
        found["files_cpu_seconds"] = round(time.process_time() - started, 1)
        workers.wait()
        if options.validate:
            model.shard, model._table = None, load_file(folder / "items.safetensors")["items"]
            found["validation_by_files"] = ranked(model, cases, workers)
    return found


def validation_cases(options: argparse.Namespace) -> Cases:
    """Users with a history and one target each."""
    rng = np.random.default_rng(1)
    lengths = np.full(options.validate, LENGTH)
    histories = rng.integers(1, options.items + 1, lengths.sum(), dtype=np.int32)
    targets = rng.integers(1, options.items + 1, options.validate, dtype=np.int32)
    users = np.arange(options.validate)
    return Cases(users, Sequences(histories, offsets_of(lengths)), Sequences(targets, np.arange(len(users) + 1)))


def ranked(model: SequentialRanker, cases: Cases, workers: Workers) -> dict[str, float]:
    """What it costs to rank the targets of all users."""
    before = memory_mb("RssFile")
    if model.shard is None:
        cases = cases.take(workers.share(np.arange(len(cases))))
    started = time.process_time()
    ranks = rank_targets(model, cases, exclude_seen=True)
    return {
        "cpu_seconds": round(time.process_time() - started, 1),
        "mean_rank": round(float(ranks.values.mean())),
        "memory_mb": memory_mb("RssAnon"),
        "pages_of_files_mb": memory_mb("RssFile") - before,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=2_000_000)
    parser.add_argument("--targets", type=int, default=2000, help="of a step, over all workers")
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--validate", type=int, default=0, metavar="USERS")
    parser.add_argument("--files", action="store_true")
    parser.add_argument("--full-softmax", action="store_true")
    parser.add_argument("--table", choices=["dense", "sharded"], help="of a worker that this script has started")
    parser.add_argument("--folder", type=Path, help="likewise")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.table:
        # Workers write at the same time: one line each, at once.
        sys.stdout.write(json.dumps(measure(options, options.folder)) + "\n")
        return
    for count, table in ((1, "dense"), (2, "dense"), (2, "sharded")):
        print(f"{count} worker(s), {table}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
            words = [*launch, __file__, *sys.argv[1:], "--table", table, "--folder", folder]
            subprocess.run(words, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


if __name__ == "__main__":
    main()
