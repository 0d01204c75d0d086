"""Time a sparse mixture of experts against the dense encoder: ``python benchmarks/moe_inference.py``.

Both models answer the same histories, with the lengths of Amazon Beauty's and its number of items, in turns, so that
other load affects both equally. It reports medians of ``--repeats`` turns of the encoder alone and of the whole
``score``, for a full batch and for one short history, where the routing's fixed cost shows.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from palate.data.sequences import Sequences, offsets_of
from palate.rankers.packing import PackedBatch
from palate.rankers.sasrec import SASRec

ITEMS = 12_101


def build(**options: object) -> SASRec:
    torch.manual_seed(0)
    return SASRec(SASRec.Config(**options), ITEMS, {}).eval()


def beauty_like(users: int) -> Sequences:
    """Histories of 4 items or more, 7 or so in the mean, a few of them long."""
    rng = np.random.default_rng(0)
    lengths = np.minimum(3 + rng.geometric(1 / 4.9, users), 50)
    return Sequences(rng.integers(1, ITEMS + 1, lengths.sum(), dtype=np.int32), offsets_of(lengths))


def in_turns(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each call."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + 3):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn >= 3:  # the first turns warm up
                seconds[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in seconds.items()}


def encoder_call(model: SASRec, histories: Sequences) -> Callable[[], object]:
    batch = PackedBatch.of(histories, model.config.max_length)
    inputs = model.table().index_select(0, batch.items)
    _ = batch.grid, batch.positions_from_end  # the layout is the same for both models

    @torch.no_grad()
    def call() -> object:
        return model.encode(inputs, batch)

    return call


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experts", type=int, default=4)
    parser.add_argument("--active", type=int, default=1)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--users", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=40)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    dense = build(dim=given.dim)
    sparse = build(dim=given.dim, ffn="moe", experts=given.experts, active=given.active)
    blocks = [sum(p.numel() for e in m.encoders for p in e.blocks.parameters()) for m in (dense, sparse)]
    print(f"{given.experts} experts, {given.active} active, dim {given.dim}, {given.threads} threads")
    print(f"  block parameters: dense {blocks[0]:,}, moe {blocks[1]:,}, x{blocks[1] / blocks[0]:.2f}")
    single = Sequences.from_lists([[1, 2, 3, 4, 5]])
    report(f"{given.users} histories", dense, sparse, beauty_like(given.users), given.repeats)
    report("1 history", dense, sparse, single, 25 * given.repeats)


def report(name: str, dense: SASRec, sparse: SASRec, histories: Sequences, repeats: int) -> None:
    models = {"dense": dense, "moe": sparse}
    print(f"  {name}, {len(histories.values):,} items")
    for what, calls in (
        ("encoder", {k: encoder_call(model, histories) for k, model in models.items()}),
        ("score", {k: partial(model.score, histories) for k, model in models.items()}),
    ):
        median = in_turns(calls, repeats)
        ratio = median["moe"] / median["dense"]
        print(f"    {what:8} dense {1e3 * median['dense']:8.3f} ms  moe {1e3 * median['moe']:8.3f} ms  x{ratio:.3f}")


if __name__ == "__main__":
    main()
