"""Validation inside training: the same ranking code as the final evaluation, on validation users only."""

from __future__ import annotations

import numpy as np

from palate.data.dataset import Dataset
from palate.data.held_out import no_targets
from palate.errors import PalateError
from palate.evaluation.metrics import METRICS, Metric
from palate.evaluation.ranking import rank_targets
from palate.recommender import Recommender
from palate.runs.workers import Workers

# What the learning curve shows besides the metric that decides.
ALWAYS = ("NDCG@10", "HitRate@10")


def parse_metric(name: str) -> tuple[str, Metric, int]:
    """The metric and cut-off that a name such as ``ndcg@10`` means, and its label for tables.

    >>> parse_metric("ndcg@5")[0]
    'NDCG@5'
    """
    word, _, depth = name.partition("@")
    metric: Metric = METRICS[word.strip().lower()]
    if metric.at_k and not (depth.isdigit() and int(depth) > 0):
        raise PalateError(f"'{name}' names no cut-off", f"Write {metric.label}@10, say.")
    if metric.of_lists or metric.whole_set:
        raise PalateError(
            f"{metric.label} says nothing about targets: it cannot choose an epoch", "Choose NDCG@10, say."
        )
    return (f"{metric.label}@{depth}", metric, int(depth)) if metric.at_k else (metric.label, metric, 0)


class Validation:
    """Metrics of a recommender on the validation split.

    Args:
        metric: the one that decides, such as ``NDCG@10``.
        exclude_seen: leave out the history (product protocol) or not (peer protocol).
        users: at most this many, a sample drawn by ``seed``; 0 means all.
    """

    def __init__(self, dataset: Dataset, metric: str, exclude_seen: bool, users: int = 0, seed: int = 0) -> None:
        self.cases = dataset.sampled_cases("valid", users, seed)
        if not len(self.cases):
            raise no_targets(dataset, "valid")
        self.exclude_seen = exclude_seen
        self.metrics = {label: (one, k) for label, one, k in map(parse_metric, (metric, *ALWAYS))}

    def __call__(self, recommender: Recommender, workers: Workers | None = None) -> dict[str, float]:
        """The metrics by name; several workers rank a part of the users each, and all have the metrics of all."""
        workers = workers or Workers()
        cases = self.cases if workers.count == 1 else self.cases.take(workers.share(np.arange(len(self.cases))))
        ranks = rank_targets(recommender, cases, exclude_seen=self.exclude_seen)
        return {label: float(np.mean(workers.whole(one(ranks, k)))) for label, (one, k) in self.metrics.items()}
