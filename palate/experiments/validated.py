"""The validation of a finished run that was not validated in training: a model that is counted, a refit."""

from __future__ import annotations

from palate.data.dataset import Dataset
from palate.rankers.registry import load_recommender
from palate.runs.run import Run
from palate.training.validation import Validation, parse_metric


def validated(run: Run, dataset: Dataset, metric: str, *, exclude_seen: bool, device: str = "cpu") -> tuple[str, float]:
    """Label and value of a metric on the validation users whose targets the run has not learnt.

    Raises:
        PalateError: it was trained on all of them.
    """
    label = parse_metric(metric)[0]
    validation = Validation(dataset, metric, exclude_seen)
    validation.leave_out(dataset, run)
    return label, validation(load_recommender(run, device=device))[label]
