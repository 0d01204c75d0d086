"""The epochs of a training in other processes are reported as it would report them itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palate.data.dataset import Dataset
from palate.training.config import TrainerConfig
from palate.training.fit import train
from palate.training.follow import reported


def lines(text: str) -> list[str]:
    """Of validations, without what depends on the clock."""
    found = [line.split("  ") for line in text.splitlines() if line.startswith("epoch")]
    return ["  ".join(one for one in words if not any(unit in one for unit in (" s", "/s", "left"))) for words in found]


def test_it_reports_what_the_training_reports(
    ring: Callable[..., Dataset], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings: dict[str, dict[str, Any]] = {
        "ranker": {"dim": 8},
        "trainer": {"epochs": 4, "tensorboard": False, "device": "cpu"},
    }
    run = train(ring(), model="gru4rec", out=tmp_path / "run", settings=settings).folder
    expected = lines(capsys.readouterr().err)
    assert len(expected) == 4
    rows = (run / "metrics.jsonl").read_text().splitlines()
    follow, config = tmp_path / "elsewhere", TrainerConfig(epochs=4)
    with reported(follow, config, every=1e9):
        follow.mkdir()
        (follow / "metrics.jsonl").write_text("\n".join(rows[:3]) + "\n")
    assert lines(capsys.readouterr().err) == expected[:3]
    with reported(follow, config, every=0.001):  # resumed, from a checkpoint of two epochs
        (follow / "metrics.jsonl").write_text("\n".join(rows[:2]) + "\n")
        (follow / "metrics.jsonl").write_text("\n".join(rows) + "\n")
    assert lines(capsys.readouterr().err) == expected[3:]
    assert json.loads(rows[0])["epoch"] == 1
