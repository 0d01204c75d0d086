"""Memory and processor time of a full evaluation over large catalogues.

    python benchmarks/evaluate_large.py --items 10000000
    python benchmarks/evaluate_large.py --items 10000000 --recommend        # ten items for every user instead

Generated data; a SASRec of random weights over nothing but ids, 64 numbers wide, to whose scores ``--neighbours N``
adds generated neighbours by N sources. The whole of `evaluate` is run: ranks, recommended lists, every metric and
slice. Each size runs in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
from typing import Any


def generated(items: int, users: int, cold: float, seed: int = 0, longest: int = 50) -> Any:
    """Users with 5 to ``longest`` interactions; a share of the items occurs among test targets only."""
    import numpy as np
    import polars as pl

    from palate.data.catalogue import Catalogue
    from palate.data.dataset import Dataset, Part
    from palate.data.sequences import offsets_of

    rng = np.random.default_rng(seed)
    lengths = rng.integers(5, longest + 1, users)
    offsets = offsets_of(lengths)
    rows = rng.integers(1, int(items * (1 - cold)) + 1, offsets[-1], dtype=np.int32)
    parts = np.full(offsets[-1], Part.TRAIN, np.uint8)
    parts[offsets[1:] - 2], parts[offsets[1:] - 1] = Part.VALID, Part.TEST
    rows[offsets[1:] - 1] = rng.integers(1, items + 1, users)
    ids = pl.Series("item_id", np.arange(1, items + 1)).cast(pl.String)
    frame = pl.DataFrame(
        {"item_id": ids, "title": ids, "image": pl.Series([None], dtype=pl.String).new_from_index(0, items)}
    )
    return Dataset(
        catalogue=Catalogue(frame),
        user_ids=pl.Series("user_id", [f"u{number}" for number in range(users)]),
        offsets=offsets,
        items=rows,
        parts=parts,
        timestamps=None,
        weights=None,
        manifest={"name": f"generated, {items:,} items"},
    )


def measure(
    items: int,
    users: int,
    dim: int,
    memory_mb: int | None,
    threads: int,
    device: str = "cpu",
    recommend: bool = False,
    neighbours: int = 0,
) -> dict[str, float]:
    """One evaluation, or recommendations for all users; of a GPU also the peak of its own memory."""
    import torch
    from drawn_neighbours import drawn_lists

    from palate.evaluation.evaluate import evaluate
    from palate.rankers.sasrec import SASRec

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    dataset = generated(items, users, cold=0.2)
    _ = dataset.fingerprint  # what opening a dataset computes, before there is a model
    model = SASRec(SASRec.Config(dim=dim, max_length=50), items, {}).eval().to(device)
    if neighbours:
        model.neighbours = drawn_lists(items, neighbours)
    ready = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun, started = time.process_time(), time.perf_counter()
    if recommend:
        figures = len(model.recommend(dataset.cases("test").histories, 10)[0])
    else:
        figures = len(evaluate(model, dataset, **({} if memory_mb is None else {"memory_mb": memory_mb})).frame)
    facts = {
        "items": items,
        "users": users,
        "cpu_s": round(time.process_time() - begun, 2),
        "wall_s": round(time.perf_counter() - started, 2),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "before_gb": round(ready / 2**20, 2),
        "figures": figures,
    }
    if device.startswith("cuda"):
        facts["gpu_peak_gb"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    return facts


def _print_measured(*arguments: Any) -> None:
    print(json.dumps(measure(*arguments)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--items", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--users", type=int, default=512)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--memory-mb", type=int, help="for scores (default: that of `palate evaluate`)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--recommend", action="store_true", help="recommend to all users instead of evaluating")
    parser.add_argument("--neighbours", type=int, default=0, metavar="SOURCES", help="0.8 GB per million items each")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    for items in options.items:
        process = context.Process(
            target=_print_measured,
            args=(
                items,
                options.users,
                options.dim,
                options.memory_mb,
                options.threads,
                options.device,
                options.recommend,
                options.neighbours,
            ),
        )
        process.start()
        process.join()
        if process.exitcode:
            print(json.dumps({"items": items, "failed": process.exitcode}), flush=True)


if __name__ == "__main__":
    main()
