"""Train on a generated log in memory and from shards, each in a process whose memory is limited, and compare.

    python benchmarks/streamed_training.py [--interactions 24000000] [--limit-mb 1500] [--epochs 1]

The limit is on what a process may allocate (RLIMIT_DATA), the libraries' own few hundred megabytes included; pages of
mapped files do not count. The model is small and the loss sampled, so that the time is that of the data.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

_CHILD = """
import json, resource, sys, time
limit = int(sys.argv[4]) * 2**20
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
from palate.cli.app import run
def report():
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"cpu_seconds": round(used.ru_utime + used.ru_stime, 1), "peak_mb": round(used.ru_maxrss / 1024)}))
words = "--model gru4rec --modalities id --neighbours none --objective sampled-softmax --device cpu --threads 1"
small = "ranker.dim=8 trainer.batch_size=256 objective.num_negatives=64 trainer.validate_users=2000"
small += " trainer.stream_buffer=4000000"
more = [word for one in [*small.split(), f"trainer.stream={sys.argv[3]}"] for word in ("--set", one)]
sys.argv = ["palate", "train", sys.argv[1], "--out", sys.argv[2], *words.split(), "--epochs", sys.argv[5], *more]
try:
    run()
finally:
    report()
"""


def make_dataset(folder: Path, interactions: int, each: int = 40, items: int = 5000) -> None:
    """Users of equal lengths who take items at random, as ``palate prepare`` would write them."""
    users = interactions // each
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    parts = np.array([0] * (each - 2) + [1, 2], np.uint8)
    pl.DataFrame(
        {
            "user": np.repeat(np.arange(users, dtype=np.uint32), each),
            "item": rng.integers(1, items + 1, users * each, dtype=np.int32),
            "part": np.tile(parts, users),
        }
    ).write_parquet(folder / "interactions.parquet")
    pl.DataFrame({"user_id": pl.Series(range(users)).cast(pl.String)}).write_parquet(folder / "users.parquet")
    nothing = {name: pl.Series([None] * items, dtype=pl.String) for name in ("title", "image")}
    pl.DataFrame({"item_id": [f"i{n}" for n in range(items)], **nothing}).write_parquet(folder / "items.parquet")
    manifest = {"format": 1, "name": "generated", "fingerprint": f"{interactions}", "image_root": "."}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def measure(dataset: Path, out: Path, stream: bool, limit: int, epochs: int) -> dict[str, Any]:
    words = [str(dataset), str(out), str(stream).lower(), str(limit), str(epochs)]
    # Allocators that reserve address space they do not use would meet the limit early.
    environment = {
        **os.environ,
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        "MALLOC_ARENA_MAX": "2",
        "POLARS_MAX_THREADS": "1",
    }
    command = [sys.executable, "-c", _CHILD, *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    facts: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    return {**facts, "exit_code": done.returncode, "last_line": done.stderr.strip().splitlines()[-1:]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interactions", type=int, default=24_000_000)
    parser.add_argument("--limit-mb", type=int, default=1500)
    parser.add_argument("--epochs", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        make_dataset(data, options.interactions)
        facts = {
            name: measure(data, Path(folder) / name, name == "stream", options.limit_mb, options.epochs)
            for name in ("stream", "memory")
        }
    print(json.dumps({**vars(options), **facts}, indent=2))


if __name__ == "__main__":
    main()
