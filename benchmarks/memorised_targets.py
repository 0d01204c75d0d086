"""How far a ranker has memorised its training targets: ranks of each user's last training item, in eval mode and from
the history before it, beside those of the validation item.

    python benchmarks/memorised_targets.py DATASET RUN... [--users 4000] [--threads 2]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from palate.data.dataset import Cases, Dataset
from palate.data.sequences import Sequences
from palate.evaluation.ranking import rank_targets
from palate.rankers.registry import load_recommender
from palate.runs.run import Run


def training_cases(dataset: Dataset) -> Cases:
    """Every user's last training item as if it were held out."""
    log = dataset.train_sequences()
    users = np.flatnonzero(log.lengths >= 2)
    rows = [log[int(user)].tolist() for user in users]
    return Cases(
        users, Sequences.from_lists([row[:-1] for row in rows]), Sequences.from_lists([row[-1:] for row in rows])
    )


def describe(ranks: npt.NDArray[np.float64]) -> str:
    gains = np.where(ranks <= 5, 1 / np.log2(1 + ranks), 0.0)
    return (
        f"NDCG@5 {gains.mean():.4f}  first {np.mean(ranks <= 1):.1%}  in the top 20 {np.mean(ranks <= 20):.1%}  "
        f"median rank {np.median(ranks):.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--users", type=int, default=4000)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dataset = Dataset.load(options.dataset)
    for name, cases in (("training", training_cases(dataset)), ("validation", dataset.cases("valid"))):
        random = np.random.default_rng(0)
        chosen = np.sort(random.choice(len(cases), min(options.users, len(cases)), replace=False))
        sample = cases.take(chosen)
        for folder in options.runs:
            ranks = rank_targets(load_recommender(Run.open(folder)), sample, exclude_seen=False).values
            print(f"{folder.name:20} {name:11} {describe(np.asarray(ranks, float).ravel())}", flush=True)


if __name__ == "__main__":
    main()
