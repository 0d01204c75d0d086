"""What a process holds and computes to recommend from a large catalogue: with the whole model, and with a part of it.

    python benchmarks/sharded_top_k.py [--items 2000000] [--histories 512] [--shards 4] [--neighbours 0]

An untrained sasrec (d=64) is saved; then processes of one thread load all of it, or one part of its items each, one
after the other, and find the 10 best items of generated histories. Memory is the process's own (RssAnon) and that of
mapped files (RssFile), which the system can take back, both without the libraries', before and after it answers.

``--neighbours`` is the number of sources by which each item gets 100 generated neighbours: 0.8 GB per source and
million items, for the five newest items of each history to read from.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from drawn_neighbours import drawn_lists
from sharded_table import LENGTH, memory_mb

from palate.data.sequences import Sequences
from palate.rankers.sasrec import SASRec
from palate.recommender import Shard
from palate.topk import merged


def measure(options: argparse.Namespace) -> None:
    """Load, recommend, and write what was found."""
    torch.set_num_threads(1)

    def memory() -> dict[str, int]:
        return {name: memory_mb(name) for name in ("RssAnon", "RssFile")}

    before = memory()
    started = time.process_time()
    if options.shard is None:
        model = SASRec.load(options.folder)
    else:
        model = SASRec.load_shard(options.folder, Shard(options.shard, options.shards))
    loaded = time.process_time()
    held = memory()
    rng = np.random.default_rng(0)
    values = rng.integers(1, options.items + 1, options.histories * LENGTH, dtype=np.int32)
    histories = Sequences(values, np.arange(options.histories + 1) * LENGTH)
    items, scores = model.recommend(histories, 10)
    answered = memory()
    facts = {
        "part": "all" if options.shard is None else f"{options.shard + 1} of {options.shards}",
        "loading_cpu_seconds": round(loaded - started, 1),
        "recommending_cpu_seconds": round(time.process_time() - loaded, 1),
        "own_mb": [one["RssAnon"] - before["RssAnon"] for one in (held, answered)],
        "mapped_mb": [one["RssFile"] - before["RssFile"] for one in (held, answered)],
        "peak_mb": memory_mb("VmHWM"),
    }
    print(json.dumps(facts), flush=True)
    name = "whole" if options.shard is None else f"part-{options.shard}"
    torch.save((items, scores), options.folder / f"{name}.pt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=2_000_000)
    parser.add_argument("--histories", type=int, default=512)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--neighbours", type=int, default=0, metavar="SOURCES")
    parser.add_argument("--folder", type=Path, help="of the model, for a process that this script has started")
    parser.add_argument("--shard", type=int, help="likewise, the number of its part")
    options = parser.parse_args()
    if options.folder is not None:
        measure(options)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.manual_seed(0)
        model = SASRec(SASRec.Config(), options.items, {}).eval()
        if options.neighbours:
            model.neighbours = drawn_lists(options.items, options.neighbours)
        model.save(folder)
        del model
        found = {}
        for part in (None, *range(options.shards)):
            words = [sys.executable, __file__, *sys.argv[1:], "--folder", name]
            words += [] if part is None else ["--shard", str(part)]
            subprocess.run(words, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
            file = folder / ("whole.pt" if part is None else f"part-{part}.pt")
            found[part] = torch.load(file, weights_only=True)
        items, _ = found.pop(None)
        print("same items:", bool(torch.equal(merged(found.values(), 10)[0], items)))


if __name__ == "__main__":
    main()
