"""What the codes of a tiger mean: items that share a prefix, and how often a user's next item shares it too.

    python benchmarks/semantic_ids.py RUN [--dataset DATASET] [--groups 4] [--shown 4] [--seed 0]

A random item shares the first code of another with the probability that is printed as chance: both drawn as often as
they are taken.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt

from palate.data.dataset import Dataset
from palate.rankers.registry import load_recommender
from palate.rankers.tiger.ranker import TIGER
from palate.runs.run import Run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--dataset", type=Path, help="by default where the run met it")
    parser.add_argument("--groups", type=int, default=4, help="prefixes to show")
    parser.add_argument("--shown", type=int, default=4, help="titles of each")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    run = Run.open(options.run)
    model = load_recommender(run)
    if not isinstance(model, TIGER):
        parser.error(f"{options.run} is a {model.name}: it has no codes")
    dataset = Dataset.load(options.dataset or run.info["dataset"]["path"])
    codes = model.codes.numpy()
    print(f"{model.num_items} items: {model.describe()['codes']}")
    for length in range(1, codes.shape[1]):
        shared, chance = together(codes[:, :length], dataset)
        print(f"next item with the same first {length} codes: {shared:.4f}, by chance {chance:.4f}")
    show(codes, dataset.catalogue.titles, options.groups, options.shown, options.seed)


def together(prefixes: npt.NDArray[np.int64], dataset: Dataset) -> tuple[float, float]:
    """Share of consecutive items of the training log with the same prefix, and of items drawn as often as taken."""
    rows = dataset.train_sequences()
    _, kind = np.unique(prefixes, axis=0, return_inverse=True)
    kinds = kind.ravel()[rows.values]
    same_user = np.repeat(np.arange(len(rows)), rows.lengths)
    pairs = same_user[1:] == same_user[:-1]
    shares = np.bincount(kinds) / len(kinds)
    return float((kinds[1:] == kinds[:-1])[pairs].mean()), float((shares**2).sum())


def show(codes: npt.NDArray[np.int64], titles: list[str], groups: int, shown: int, seed: int) -> None:
    """Print titles of items that share their first two codes, of a few prefixes drawn at random."""
    prefixes, kind, counts = np.unique(codes[1:, :2], axis=0, return_inverse=True, return_counts=True)
    rng = np.random.default_rng(seed)
    large = np.flatnonzero(counts >= shown)
    for group in rng.choice(large, min(groups, len(large)), replace=False):
        print(f"{tuple(prefixes[group].tolist())}, {counts[group]} items:")
        for item in rng.choice(np.flatnonzero(kind.ravel() == group) + 1, shown, replace=False):
            print(f"  {tuple(codes[item].tolist())} {titles[item][:100]}")


if __name__ == "__main__":
    main()
