"""The dataset of a run: where it is, and whether it is the one that the run has learnt from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.runs.run import Run
from palate.storage.remote import find


def dataset_of(run: Run, dataset: Dataset | None = None, path: Path | str | None = None) -> Dataset:
    """The dataset that a run was trained on, with its folder where that is known.

    Args:
        dataset: the dataset itself; by default it is read from its folder.
        path: its folder; by default the dataset's own, or else where the run met it.

    Raises:
        PalateError: it is not there, or it is another one.
    """
    if dataset is None:
        dataset = Dataset.load(dataset_folder(run, path))
    elif path is not None:
        dataset = replace(dataset, folder=dataset_folder(run, path))
    elif dataset.folder is None:
        dataset = replace(dataset, folder=find(run.info["dataset"].get("path")))
    check_dataset(run, dataset)
    return dataset


def dataset_folder(run: Run, path: Path | str | None = None) -> Path:
    """The folder of a run's dataset, by default where the run met it.

    Raises:
        PalateError: it is not known, or there is nothing.
    """
    where = run.info["dataset"].get("path") if path is None else path
    if where is None:
        raise PalateError(f"{run.folder} does not say where its dataset is", "Give --dataset.")
    found = find(where)
    if found is None or not found.is_dir():
        raise PalateError(f"the dataset {where} is not there", "Give --dataset, or make it with `palate prepare`.")
    return found


def check_dataset(run: Run, dataset: Dataset) -> None:
    """Refuse a dataset that the run was not trained on.

    Raises:
        PalateError: it is another one.
    """
    learnt = run.info["dataset"]
    if learnt["fingerprint"] != dataset.fingerprint:
        raise PalateError(
            f"{run.folder} was trained on other data than {dataset.folder or dataset.name}: {learnt['name']} "
            f"({learnt['fingerprint']}), not {dataset.name} ({dataset.fingerprint})",
            "Take the dataset that the run was trained on, or train again on this one.",
        )
