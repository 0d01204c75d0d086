"""Finding the best of many vectors: exactly, and by FAISS as ``palate serve --index faiss`` does. CPU seconds.

    python benchmarks/search_size.py --items 100000 1000000 4000000

Random vectors of 64 numbers, the hardest case for an approximate search. Each size runs in a process of its own. Peak
memory includes the vectors, of which FAISS keeps a copy.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
from typing import Any


def measure(items: int, queries: int, k: int) -> dict[str, Any]:
    import torch

    from palate.serve.index import FaissIndex
    from palate.topk import best_items

    torch.set_num_threads(1)
    _one_thread_for_faiss()
    drawn = torch.Generator().manual_seed(0)
    vectors, asked = (torch.randn(count, 64, generator=drawn) for count in (items + 1, queries))
    vectors[0] = 0
    clock = time.process_time()
    best = torch.cat([best_items(one.unsqueeze(0) @ vectors[1:].T, k)[0] + 1 for one in asked])
    exact = time.process_time() - clock
    clock = time.process_time()
    index = FaissIndex(vectors)
    built = time.process_time() - clock
    clock = time.process_time()
    found = torch.cat([index.search(one.unsqueeze(0), k)[0] for one in asked])
    searched = time.process_time() - clock
    same = sum(len(set(one) & set(other)) for one, other in zip(found.tolist(), best.tolist(), strict=True))
    return {
        "items": items,
        "exact_ms": round(1e3 * exact / queries, 2),
        "faiss_ms": round(1e3 * searched / queries, 2),
        "faiss_build_s": round(built, 1),
        "found": round(same / (queries * k), 4),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }


def _one_thread_for_faiss() -> None:
    import faiss

    faiss.omp_set_num_threads(1)


def _print_measured(*arguments: Any) -> None:
    print(json.dumps(measure(*arguments)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[100_000, 1_000_000, 4_000_000])
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--k", type=int, default=10)
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    for items in options.items:
        process = context.Process(target=_print_measured, args=(items, options.queries, options.k))
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(f"{items:,} items: exit code {process.exitcode}")


if __name__ == "__main__":
    main()
