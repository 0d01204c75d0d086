"""Time and peak memory of preparing 20 million interactions in MovieLens' ``ratings.csv`` format.

The data are generated: items and users follow heavy-tailed popularity, a user's ratings are adjacent as in the real
file, and ids have gaps. The generator runs in its own process, so that its memory is not counted.

    python benchmarks/prepare_20m.py                       # 20 million, k-core 5, ratings >= 1
    python benchmarks/prepare_20m.py --interactions 1000000
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

USERS_A_ROW, ITEMS_A_ROW = 145, 750  # as in MovieLens 20M: 138,493 users and 26,744 films


def generate(folder: Path, interactions: int, seed: int) -> None:
    """Write ``ratings.csv`` and ``movies.csv``."""
    rng = np.random.default_rng(seed)
    users, items = max(interactions // USERS_A_ROW, 10), max(interactions // ITEMS_A_ROW, 10)
    share = rng.pareto(1.2, users) + 0.1
    lengths = np.maximum(1, share / share.sum() * interactions).astype(np.int64)
    lengths[:] = np.minimum(lengths, 10_000)
    lengths[: interactions - lengths.sum()] += 1
    while (missing := interactions - int(lengths.sum())) > 0:
        lengths[rng.choice(users, min(missing, users), replace=False)] += 1
    user = np.repeat(np.arange(1, users + 1), lengths)
    popularity = np.cumsum(1 / np.arange(1, items + 1) ** 0.8)
    item = 1 + 5 * np.searchsorted(popularity, rng.random(len(user)) * popularity[-1])
    start = np.repeat(rng.integers(789_652_000, 1_400_000_000, users), lengths)
    frame = pl.DataFrame(
        {
            "userId": user,
            "movieId": item,
            "rating": rng.integers(1, 11, len(user)) / 2,
            "timestamp": start + rng.integers(0, 40_000_000, len(user)),
        }
    )
    frame.write_csv(folder / "ratings.csv")
    films = pl.DataFrame({"movieId": 1 + 5 * np.arange(items)})
    films = films.with_columns(title=pl.format("Film {} (1999)", "movieId"), genres=pl.lit("Comedy|Drama"))
    films.write_csv(folder / "movies.csv")


def measure(folder: Path, out: Path, k_core: int) -> dict[str, float | int]:
    """Prepare and save in this process; its peak memory is the system's own figure."""
    from palate.data.prepare import prepare

    start = time.perf_counter()
    dataset = prepare(folder, "movielens", k_core=k_core, min_rating=1)
    prepared = time.perf_counter()
    dataset.save(out)
    saved = time.perf_counter()
    return {
        "read": dataset.manifest["read"]["interactions"],
        **{key: dataset.manifest["counts"][key] for key in ("users", "items", "interactions")},
        "prepare_seconds": round(prepared - start, 1),
        "save_seconds": round(saved - prepared, 1),
        "total_seconds": round(saved - start, 1),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interactions", type=int, default=20_000_000)
    parser.add_argument("--k-core", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="Keep the generated files in this folder, or use those there.")
    arguments = parser.parse_args()
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="palate-prepare-"))
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    try:
        if not (folder / "ratings.csv").exists():
            worker = context.Process(target=generate, args=(folder, arguments.interactions, arguments.seed))
            worker.start()
            worker.join()
        shutil.rmtree(folder / "dataset", ignore_errors=True)
        figures = measure(folder, folder / "dataset", arguments.k_core)
        figures["file_mb"] = (folder / "ratings.csv").stat().st_size // 2**20
        figures["cores"] = len(os.sched_getaffinity(0))
        print(json.dumps(figures, indent=2))
    finally:
        if arguments.keep is None:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
