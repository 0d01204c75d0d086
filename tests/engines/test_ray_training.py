"""Two workers of Ray train what one process does, also where one of them dies."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from training_helpers import leave_the_folder_in_use_once, refuse, train_and_die_once

from palate.data.dataset import Dataset
from palate.engines.base import Engine
from palate.errors import PalateError
from palate.runs.run import Run
from palate.training.fit import train

pytest.importorskip("ray", reason="Ray is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
RANKER = {"dim": 16, "max_length": 10, "dropout": 0.0}
TRAINER = {"epochs": 3, "batch_size": 79, "learning_rate": 0.01, "device": "cpu", "tensorboard": False}
SETTINGS = {"ranker": RANKER, "trainer": TRAINER}


def rows_of(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]


def check_equal(run: Run, other: Run) -> None:
    """Losses to 1e-6, metrics exactly, weights to 1e-5."""
    assert len(rows_of(run)) == len(rows_of(other)) == 3
    for mine, theirs in zip(rows_of(run), rows_of(other), strict=True):
        for name in ("step", "loss", "NDCG@10", "HitRate@10"):
            assert mine[name] == pytest.approx(theirs[name], rel=1e-6), name
    weights = [load_file(one.model_folder / "weights.safetensors") for one in (run, other)]
    for name, mine in weights[0].items():
        differences = np.abs(mine.astype(np.float64) - weights[1][name])
        assert differences.max() <= 1e-5, name


def test_two_workers_of_ray_train_what_one_process_does(
    ring: Callable[..., Dataset], engine: Engine, tmp_path: Path
) -> None:
    """The second worker dies after two epochs: Ray starts both again, and they go on from the checkpoint."""
    data = ring()
    data.save(tmp_path / "data")
    alone = train(data, model="gru4rec", out=tmp_path / "alone", settings=SETTINGS, dataset_path=tmp_path / "data")
    job = {"model": "gru4rec", "settings": SETTINGS}
    engine.together(partial(train_and_die_once, tmp_path, job), tmp_path / "scratch", [tmp_path / "data"])
    assert (tmp_path / "died").exists()
    assert not (tmp_path / "scratch").exists()
    check_equal(Run.open(tmp_path / "killed"), alone)


def test_what_workers_refuse_is_one_error(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(PalateError, match="nothing can be trained"):
        engine.together(refuse, tmp_path / "scratch")
    with pytest.raises(PalateError, match="does not see the folder"):
        engine.together(refuse, tmp_path / "scratch", [tmp_path / "nowhere"])
    assert not (tmp_path / "scratch").exists()


def test_workers_that_are_started_again_wait_for_those_before_them(engine: Engine, tmp_path: Path) -> None:
    engine.together(partial(leave_the_folder_in_use_once, tmp_path, 20.0), tmp_path / "scratch")
    assert (tmp_path / "died").exists()
    assert (tmp_path / "run/written").exists()
