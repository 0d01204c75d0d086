"""The dataset of a run is found, or one clear error says why not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.runs.dataset import dataset_folder, dataset_of
from palate.runs.run import Run
from palate.training.fit import train


@pytest.fixture
def run(ring: Callable[..., Dataset], tmp_path: Path) -> Run:
    ring().save(tmp_path / "data")
    return train(Dataset.load(tmp_path / "data"), model="popularity", out=tmp_path / "run")


def test_it_is_read_where_the_run_met_it_or_where_it_is_now(run: Run, tmp_path: Path) -> None:
    assert dataset_of(run).folder == tmp_path / "data"
    (tmp_path / "data").rename(tmp_path / "moved")
    with pytest.raises(PalateError, match=r"the dataset .*data is not there\. Give --dataset"):
        dataset_of(run)
    assert dataset_of(run, path=tmp_path / "moved").folder == tmp_path / "moved"


def test_a_dataset_in_memory_gets_the_folder_of_its_features(
    run: Run, ring: Callable[..., Dataset], tmp_path: Path
) -> None:
    assert dataset_of(run, ring()).folder == tmp_path / "data"
    loaded = Dataset.load(tmp_path / "data")
    assert dataset_of(run, loaded) is loaded
    assert dataset_of(run, loaded, tmp_path).folder == tmp_path
    with pytest.raises(PalateError, match=r"the dataset .*typo is not there"):
        dataset_of(run, loaded, tmp_path / "typo")
    (tmp_path / "data").rename(tmp_path / "moved")
    assert dataset_of(run, ring()).folder is None


def test_another_dataset_is_refused(run: Run, ring: Callable[..., Dataset], tmp_path: Path) -> None:
    other = ring(seed=9)
    with pytest.raises(PalateError, match=r"run was trained on other data than .*data: ring .*, not ring"):
        dataset_of(run, other)
    other.save(tmp_path / "data", replace=True)
    with pytest.raises(PalateError, match="Take the dataset that the run was trained on, or train again on this one"):
        dataset_of(run)


def test_a_run_may_not_know(run: Run) -> None:
    lost = replace(run, info={**run.info, "dataset": {**run.info["dataset"], "path": None}})
    with pytest.raises(PalateError, match=r"run does not say where its dataset is\. Give --dataset"):
        dataset_folder(lost)
