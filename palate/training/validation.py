"""Validation inside training: the same ranking code as the final evaluation, on validation users only."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from palate.console import print_note
from palate.data.dataset import Dataset, Part
from palate.data.held_out import no_targets
from palate.data.streamed import StreamedDataset
from palate.errors import PalateError
from palate.evaluation.metrics import METRICS, Metric, parse_cut_off
from palate.evaluation.ranking import rank_targets
from palate.evaluation.unseen import fitted_to
from palate.recommender import Recommender
from palate.runs.run import Run
from palate.runs.trained_on import check_unseen
from palate.runs.workers import Workers

# What the learning curve shows besides the metric that decides.
ALWAYS = ("NDCG@10", "HitRate@10")


def parse_metric(name: str) -> tuple[str, Metric, int]:
    """The metric and cut-off that a name such as ``ndcg@10`` means, and the name in the field's spelling.

    >>> parse_metric("ndcg@5")[0]
    'NDCG@5'
    """
    word, _, depth = name.partition("@")
    word = word.strip().lower()
    metric = METRICS[word]
    if metric.at_k and parse_cut_off(depth) is None:
        raise PalateError(f"'{name}' names no cut-off", f"Write {metric.label}@10, say.")
    if metric.of_lists or metric.whole_set or {"vectors", "groups"} & set(metric.needs):
        raise PalateError(
            f"{metric.label} says nothing about targets: it cannot choose an epoch", "Choose NDCG@10, say."
        )
    if not metric.higher_is_better:
        raise PalateError(
            f"of '{word}', the lower the better, and the highest figure chooses the epoch", "Choose NDCG@10, say."
        )
    # What is written down has to lead back here: a plug-in's label may be another metric's name, or nobody's.
    shown = metric.label if metric.label.lower() == word else word
    return (f"{shown}@{depth}", metric, int(depth)) if metric.at_k else (shown, metric, 0)


class Validation:
    """Metrics of a recommender on the validation split.

    Args:
        metric: the one that decides, such as ``NDCG@10``.
        exclude_seen: leave out the history (product protocol) or not (peer protocol).
        users: at most this many, a sample drawn by ``seed``; 0 means all.
        times: whether histories have their times, for recommenders that read them.
    """

    def __init__(
        self, dataset: Dataset, metric: str, exclude_seen: bool, users: int = 0, seed: int = 0, times: bool = True
    ) -> None:
        self.cases = dataset.sampled_cases("valid", users, seed, times)
        if not len(self.cases):
            raise no_targets(dataset, "valid")
        self.exclude_seen, self._train_counts = exclude_seen, dataset.train_counts
        self.metrics = {label: (one, k) for label, one, k in map(parse_metric, (metric, *ALWAYS))}

    def leave_out(self, dataset: Dataset, run: Run) -> None:
        """Leave out the users whose validation targets a run has learnt from, which weights are taken from.

        Raises:
            PalateError: they are all users.
        """
        check_unseen(run, dataset, "valid")
        if isinstance(dataset, StreamedDataset):
            return
        seen = fitted_to(run, dataset, dataset.parts == Part.VALID)
        if not seen.any():
            return
        known = np.isin(self.cases.users, dataset.rows_user[seen])
        if known.all():
            raise PalateError(
                f"{run.folder}, or a run that it started from, was trained on all validation targets of {dataset.name}",
                "Give --refit, which needs no validation, or warm-start from a run that held them out.",
            )
        if known.any():
            print_note(
                f"{known.sum():,} of {len(known):,} validation users are left out: {run.folder} was trained on their "
                "targets."
            )
        self.cases = self.cases.take(np.flatnonzero(~known))

    def __call__(self, recommender: Recommender, workers: Workers | None = None) -> dict[str, float]:
        """The metrics by name; several workers rank a part of the users each, or where they divide the items, all users
        together. All have the metrics of all."""
        workers = Workers() if workers is None or recommender.shard is not None else workers
        cases = self.cases if workers.count == 1 else self.cases.take(workers.share(np.arange(len(self.cases))))
        ranks = rank_targets(recommender, cases, exclude_seen=self.exclude_seen)
        ranks = replace(ranks, histories=cases.histories, train_counts=self._train_counts)
        return {label: float(np.mean(workers.whole(one(ranks, k)))) for label, (one, k) in self.metrics.items()}
