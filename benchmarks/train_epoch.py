"""Time a training epoch and a full evaluation, beside the lower bound of the matrix products on this machine.

    python benchmarks/train_epoch.py DATASET [--threads 2] [--epochs 4] [--precision float32|bfloat16] [--recipe FILE]

The model is that of the peers (2 layers, d=64, length 50, full cross-entropy); the lower bound is the time of the three
matrix products of the loss alone, ``targets x items x d x 6`` flops, at the rate that this machine reaches for that
shape.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import tomllib
from pathlib import Path

import torch

from palate.data.dataset import Dataset
from palate.training.fit import train


def floor_seconds(targets: int, items: int, dim: int, rows: int, repeats: int = 5) -> float:
    """Seconds for the loss's matrix products over all targets, ``rows`` at a time, best of ``repeats``."""
    hidden, table = torch.randn(rows, dim), torch.randn(items, dim)
    logits, query_grad, item_grad = torch.empty(rows, items), torch.empty(rows, dim), torch.zeros(items, dim)
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        torch.mm(hidden, table.T, out=logits)
        torch.mm(logits, table, out=query_grad)
        item_grad.addmm_(logits.T, hidden)
        best = min(best, time.perf_counter() - started)
    return best * targets / rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--recipe", type=Path, help="take [train] of this recipe (its seed, epochs and patience aside)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dataset = Dataset.load(options.dataset)
    table = tomllib.loads(options.recipe.read_text())["train"] if options.recipe else {}
    settings = {name: dict(table.get(name, {})) for name in ("ranker", "trainer")}
    settings["objective"] = {"precision": options.precision}
    settings["trainer"] |= {"epochs": options.epochs, "patience": 0, "tensorboard": False, "exclude_seen": False}
    with tempfile.TemporaryDirectory() as folder:
        run = train(
            dataset,
            model="sasrec",
            out=Path(folder) / "run",
            modalities=("id",),
            neighbours=(),
            settings=settings,
        )
        rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    targets = int((dataset.train_sequences().lengths - 1).clip(0).sum())
    floors = {rows: floor_seconds(targets, dataset.num_items, 64, rows) for rows in (128, 256, 512, 1024, 2048, 4096)}
    epoch = statistics.median(row["train_seconds"] for row in rows[1:])
    facts = {
        "targets": targets,
        "items": dataset.num_items,
        "precision": options.precision,
        "epoch_seconds": epoch,
        "first_epoch_seconds": rows[0]["train_seconds"],
        "evaluation_seconds": statistics.median(row["eval_seconds"] for row in rows[1:]),
        "peak_memory_mb": rows[-1]["peak_memory_mb"],
        "floor_seconds": {str(key): round(value, 2) for key, value in floors.items()},
        "epoch_over_best_floor": round(epoch / min(floors.values()), 2),
    }
    print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
