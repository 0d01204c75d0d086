"""Time the ranking of all users over the whole catalogue: ``python benchmarks/evaluate_beauty.py [DATASET]``.

The model is a dummy of random 64-dimensional vectors, so that the evaluation is measured without an encoder:
the matrix product of users and items, and the ranking of its scores. Without DATASET, cases of the size of Amazon
Beauty (22,363 users, 12,101 items) are drawn at random.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from palate.data.dataset import Cases, Dataset
from palate.data.sequences import Sequences, offsets_of
from palate.evaluation.metrics import METRICS
from palate.evaluation.ranking import rank_targets
from palate.recommender import Histories, Recommender, as_sequences


class RandomVectors(Recommender):
    """Dot product of a random item vector and that of the history's last item."""

    name = "random-vectors"

    def __init__(self, num_items: int, dim: int = 64) -> None:
        self.num_items = num_items
        self.vectors = torch.randn(num_items + 1, dim, generator=torch.Generator().manual_seed(0))
        self.seconds = 0.0

    def score(self, histories: Histories, candidates: Tensor | None = None) -> Tensor:
        start = time.perf_counter()
        rows = as_sequences(histories)
        users = self.vectors[torch.from_numpy(rows.values[rows.offsets[1:] - 1]).long()]
        scores = users @ self.vectors.T
        scores[:, 0] = -torch.inf
        self.seconds += time.perf_counter() - start
        return scores

    def save(self, folder: Path) -> None:
        raise NotImplementedError

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Self:
        raise NotImplementedError


def random_cases(users: int, items: int) -> Cases:
    rng = np.random.default_rng(0)
    lengths = np.minimum(rng.geometric(1 / 8, users) + 3, 200)
    histories = Sequences(rng.integers(1, items + 1, lengths.sum(), dtype=np.int32), offsets_of(lengths))
    targets = Sequences(rng.integers(1, items + 1, users, dtype=np.int32), offsets_of(np.ones(users, np.int64)))
    return Cases(np.arange(users), histories, targets)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path, nargs="?", help="folder made by `palate prepare`")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--keep-seen", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.dataset:
        dataset = Dataset.load(given.dataset)
        cases, items, name = dataset.cases("test"), dataset.num_items, dataset.name
    else:
        cases, items, name = random_cases(22_363, 12_101), 12_101, "random cases"
    model = RandomVectors(items)
    print(f"{name}: {len(cases):,} cases x {items:,} items, {given.threads} threads, batch {given.batch_size}")
    for _ in range(given.repeats):
        model.seconds = 0.0
        start = time.perf_counter()
        ranks = rank_targets(model, cases, exclude_seen=not given.keep_seen, batch_size=given.batch_size)
        ndcg = METRICS["ndcg"](ranks, 10).mean()
        total = time.perf_counter() - start
        print(f"  {total:.2f} s, of which scoring {model.seconds:.2f} s, the rest {total - model.seconds:.2f} s;"
              f" NDCG@10 {ndcg:.5f}")  # fmt: skip
    print(f"  peak memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
