"""CPU time and peak memory of ``palate prepare`` and ``palate doctor`` on a large generated log.

The log has text ids (``u00012345``, ``i00004567``), a rating and Unix seconds, and is in the order of time, so that a
user's rows are all over the file. There are about 100 rows per user and 200 per item, unless options say otherwise;
popularity and activity are heavy-tailed. Every stage runs in a process of its own. Its peak is the largest resident
memory that the system saw, with about 0.15 GB for Python and the libraries. The stage "read" is the part of "prepare"
that workers could do: hash and parse the files; and what it would cost to get the rows back from them, as messages.

    python benchmarks/prepare_large.py --rows 10000000                  # prints one table row per stage
    python benchmarks/prepare_large.py --rows 10000000 --format parquet --k-core 5 --keep large
    python benchmarks/prepare_large.py --rows 10000000 --rows-per-user 10 --rows-per-item 20     # many ids
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BLOCK = 1_000_000  # rows that are generated at a time
WORDS = ("red", "green", "blue", "old", "new", "small", "large", "soft", "plain", "warm", "silk", "wool", "oak", "iron")


def generate(folder: Path, rows: int, kind: str, seed: int, per_user: int = 100, per_item: int = 200) -> dict[str, Any]:
    """Write ``log/log.csv`` (or Parquet parts) and ``items.csv``."""
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(seed)
    users, items = max(rows // per_user, 10), max(rows // per_item, 100)
    activity = np.cumsum(rng.lognormal(0, 1, users))
    popularity = np.cumsum(1 / np.arange(1, items + 1) ** 0.7)
    names = {"user": _names("u", rng.permutation(users)), "item": _names("i", rng.permutation(items))}
    (folder / "log").mkdir(parents=True)
    with (folder / "log" / "log.csv").open("wb") if kind == "csv" else (folder / "generated").open("wb") as file:
        for number, start in enumerate(range(0, rows, BLOCK)):
            n = min(BLOCK, rows - start)
            drawn = [np.searchsorted(sums, rng.random(n) * sums[-1]) for sums in (activity, popularity)]
            seconds = 1_400_000_000 + (start + np.sort(rng.integers(0, BLOCK, n))) * 200_000_000 // rows
            frame = pl.DataFrame(
                {
                    **{name: ids.gather(rows) for (name, ids), rows in zip(names.items(), drawn, strict=True)},
                    "rating": rng.integers(1, 11, n) / 2,
                    "timestamp": seconds,
                }
            )
            if kind == "csv":
                frame.write_csv(file, include_header=not start)
            else:
                frame.write_parquet(folder / "log" / f"part-{number:04d}.parquet")
    words = rng.choice(WORDS, (items, 8))
    texts = [" ".join(row) for row in words.tolist()]
    catalogue = {"item_id": names["item"], "title": [text[:20] for text in texts], "description": texts}
    pl.DataFrame(catalogue).write_csv(folder / "items.csv")
    return {"users": users, "items": items, "log_mb": sum(f.stat().st_size for f in (folder / "log").iterdir()) >> 20}


def _names(letter: str, numbers: Any) -> Any:
    import polars as pl

    return pl.Series(numbers).cast(pl.String).str.zfill(8).to_frame("n").select(pl.lit(letter) + pl.col("n"))[:, 0]


def read(folder: Path) -> dict[str, Any]:
    import polars as pl

    from palate.data.prepare import read_source
    from palate.data.readers.base import ReaderOptions

    started, messages, rows = time.process_time(), 0.0, 0
    found, _ = read_source(folder / "log", "table", ReaderOptions(), None)
    frames = [found.interactions] if isinstance(found.interactions, pl.LazyFrame) else found.interactions
    for frame in frames:
        for batch in frame.collect_batches(chunk_size=BLOCK, maintain_order=True, engine="streaming"):
            rows += len(batch)
            before, message = time.process_time(), io.BytesIO()
            batch.write_ipc_stream(message)
            assert len(pl.read_ipc_stream(message.getvalue())) == len(batch)
            messages += time.process_time() - before
    reading = time.process_time() - started - messages
    return {"read": rows, "reading_cpu_s": round(reading, 1), "messages_cpu_s": round(messages, 1)}


def prepare(folder: Path, k_core: int) -> dict[str, Any]:
    from palate.data.prepare import prepare as make

    dataset = make(folder / "log", "table", catalogue=folder / "items.csv", min_rating=1.0, k_core=k_core)
    prepared = _used()
    dataset.save(folder / "dataset")
    counts = {key: dataset.manifest["counts"][key] for key in ("users", "items", "interactions")}
    return {**counts, "before_saving": prepared, "fingerprint": dataset.fingerprint}


def examine(folder: Path) -> dict[str, Any]:
    from palate.data.dataset import Dataset
    from palate.data.doctor import examine as look

    dataset = Dataset.load(folder / "dataset")
    loaded = _used()
    levels = look(dataset).to_dict()["levels"]
    return {"after_loading": loaded, "levels": levels}


def _used() -> dict[str, float]:
    """CPU seconds and peak memory of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {"cpu_s": round(used.ru_utime + used.ru_stime, 1), "peak_gb": round(_peak() / 1e9, 3)}


def _peak() -> int:
    """Bytes; of this program alone where the system says so, for ``ru_maxrss`` begins with that of the parent."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _measured(answers: Any, stage: Callable[..., dict[str, Any]], *arguments: Any) -> None:
    started = time.perf_counter()
    facts = stage(*arguments)
    answers.put({**_used(), "wall_s": round(time.perf_counter() - started, 1), **facts})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--format", choices=("csv", "parquet"), default="csv", help="of the log; Parquet in many files")
    parser.add_argument("--k-core", type=int, default=5)
    parser.add_argument("--rows-per-user", type=int, default=100)
    parser.add_argument("--rows-per-item", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="Work in this folder, keep it, and use the log that is there.")
    options = parser.parse_args()
    folder = options.keep or Path(tempfile.mkdtemp(prefix="palate-large-"))
    context = multiprocessing.get_context("spawn")
    per = options.rows_per_user, options.rows_per_item
    stages: dict[str, tuple[Any, ...]] = {
        "generate": (generate, folder, options.rows, options.format, options.seed, *per),
        "read": (read, folder),
        "prepare": (prepare, folder, options.k_core),
        "examine": (examine, folder),
    }
    try:
        if (folder / "log").exists():
            del stages["generate"]
        shutil.rmtree(folder / "dataset", ignore_errors=True)
        for name, (stage, *arguments) in stages.items():
            answers = context.SimpleQueue()
            worker = context.Process(target=_measured, args=(answers, stage, *arguments))
            worker.start()
            worker.join()
            if worker.exitcode:
                raise SystemExit(f"{name} failed")
            facts = answers.get()
            facts["peak_bytes_per_row"] = round(facts["peak_gb"] * 1e9 / options.rows, 1)
            print(json.dumps({"stage": name, "rows": options.rows, **facts}), flush=True)
    finally:
        if options.keep is None:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
