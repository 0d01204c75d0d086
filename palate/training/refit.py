"""Train a run's recipe on all interactions: the Python call behind ``palate train --refit``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from palate.data.dataset import Dataset
from palate.features.folders import open_features
from palate.features.store import FeatureStore
from palate.runs.log import Row
from palate.runs.run import Run
from palate.storage.remote import takes_urls
from palate.training.fit import train
from palate.training.refit_plan import check_encoders, plan_refit


@takes_urls("out")
def refit(
    run: Run | Path | str,
    dataset: Dataset,
    *,
    out: Path | str,
    dataset_path: Path | str | None = None,
    features: Mapping[str, FeatureStore] | None = None,
    stores: list[str] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    warm_start: Path | str | None = None,
    seed: int | None = None,
    resume: bool = False,
    on_epoch: Callable[[Row], None] | None = None,
) -> Run:
    """Train the model of ``run``, with its settings, on the training, validation and test interactions of a dataset.

    For as many epochs as validation chose for ``run``: every interaction is seen as often as then, so that more of them
    are more steps. Nothing is validated, for nothing is held out: the last weights are kept (averaged, if the run
    averages them), and neighbours keep the weights that validation chose while their lists are made anew. Items are
    matched by their ids, so the dataset may have grown.

    Args:
        run: a finished run.
        dataset: the one it was trained on, or a later one.
        dataset_path: where the dataset is; by default the folder that it was read from.
        features: feature stores by modality; by default those of the dataset's folder.
        stores: ``MODALITY=NAME``: other stores than ``features/MODALITY``.
        settings: ``trainer``: ``epochs`` in place of what validation chose, ``device``, ``checkpoint_minutes``.
        warm_start: a run to take the weights from: a few ``epochs`` then suffice.
        seed: by default the run's own.
        resume: continue an interrupted one.
        on_epoch: called with each row of ``metrics.jsonl``.

    Raises:
        PalateError: see :func:`palate.training.refit_plan.plan_refit`; features of another encoder; and what
            :func:`palate.training.fit.train` refuses.
    """
    start = Run.opened(run)
    planned = plan_refit(start, settings=settings, warm_start=warm_start)
    path = dataset_path if dataset_path is not None else dataset.folder
    found = dict(features or {})
    if features is None and path is not None:
        found = open_features(Path(path), dataset.catalogue, tuple(planned.options["modalities"]), stores or [])
    check_encoders(start, found)
    return train(
        dataset,
        out=out,
        seed=start.seed if seed is None else seed,
        features=found,
        dataset_path=path,
        warm_start=warm_start,
        resume=resume,
        refit=planned,
        on_epoch=on_epoch,
        **planned.options,
    )
