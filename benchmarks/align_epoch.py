"""Time an epoch of alignment against an epoch of cross-entropy, from the same run, batch by batch in turns.

    python benchmarks/align_epoch.py RUN [--negatives top-k] [--batches 60] [--threads 2] [--set align.share=0.5 ...]

Each contender trains on every measured batch in turn, so that other load on the machine affects all equally. The
reference's states are computed once before an epoch; their time is reported and divided by ``--epochs``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from palate.alignment.plan import plan_alignment
from palate.cli.shared.options import parse_assignments
from palate.objectives import Batch
from palate.rankers.packing import PackedBatch
from palate.runs.run import Run


class Contender:
    """One way to train, with weights and an optimiser of its own."""

    def __init__(self, run: Run, objective: str, negatives: str, settings: dict[str, Any]) -> None:
        asked = plan_alignment(run, objective=objective, negatives=negatives, settings=settings)
        self.prepared = asked.prepare()
        started = time.perf_counter()
        self.step = asked.make_step(self.prepared, torch.device("cpu"))
        self.preparation = time.perf_counter() - started
        self.model = self.prepared.model.train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5, fused=True)
        self.generator = torch.Generator().manual_seed(0)
        self.counts = torch.from_numpy(asked.dataset.train_counts).float()
        self.classes = torch.nonzero(self.counts).squeeze(1)
        self.seconds: list[float] = []

    def train_on(self, windows: Any, number: int, measured: bool) -> None:
        started = time.perf_counter()
        packed = PackedBatch.of(windows.inputs, self.prepared.data.max_length)
        batch = Batch(torch.from_numpy(windows.targets), self.classes, self.counts, None, self.generator)
        loss = self.step(self.model, packed, batch, windows.places, number)
        if loss is not None:
            self.optimizer.zero_grad(set_to_none=True)
            loss.value.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
        if measured:
            self.seconds.append(time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--objective", default="dpo")
    parser.add_argument("--negatives", default="top-k")
    parser.add_argument("--batches", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=1, help="alignment epochs that share the reference's cost")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    run = Run.open(options.run)
    usual = Contender(run, "none", "uniform", {})
    aligned = Contender(run, options.objective, options.negatives, parse_assignments(options.set))
    batches = list(usual.prepared.data.batches(1))
    measured = batches[: options.batches]
    for number, windows in enumerate([*measured[:5], *measured]):
        for contender in (usual, aligned):
            contender.train_on(windows, number, measured=number >= 5)
    scale = len(batches) / len(measured)
    epochs = {name: sum(c.seconds) * scale for name, c in (("cross_entropy", usual), ("alignment", aligned))}
    preparation = max(0.0, aligned.preparation - usual.preparation)
    facts = {
        "batches": len(measured),
        "epoch_seconds": {name: round(value, 2) for name, value in epochs.items()},
        "median_ratio_of_a_step": round(
            statistics.median(a / b for a, b in zip(aligned.seconds, usual.seconds, strict=True)), 3
        ),
        "reference_seconds": round(preparation, 2),
        "alignment_over_cross_entropy": round(
            (epochs["alignment"] + preparation / options.epochs) / epochs["cross_entropy"], 3
        ),
    }
    print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
