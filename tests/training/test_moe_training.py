"""Training with a mixture of experts: the log, resuming to the bit, and the options of the command."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from palate.cli.app import main
from palate.data.dataset import Dataset
from palate.rankers.registry import load_recommender
from palate.runs.run import Run
from palate.training.fit import train

Ring = Callable[..., Dataset]
SETTINGS: dict[str, dict[str, Any]] = {
    "ranker": {"dim": 16, "max_length": 10, "dropout": 0.2, "ffn": "moe", "experts": 3},
    "trainer": {"epochs": 4, "batch_size": 16, "learning_rate": 0.01, "device": "cpu", "tensorboard": False},
}
FACTS = ("expert_share_max", "expert_share_min", "routing_entropy", "balance_loss")
TIMES = ("train_seconds", "eval_seconds", "targets_per_second", "peak_memory_mb")


def rows_of(run: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


class Stop(Exception):
    pass


def test_the_log_tells_how_experts_are_used_and_a_resumed_run_ends_the_same(ring: Ring, tmp_path: Path) -> None:
    train(ring(), model="sasrec", out=tmp_path / "whole", settings=SETTINGS)

    def stop(row: dict[str, Any]) -> None:
        if row["epoch"] == 2:
            raise Stop

    with pytest.raises(Stop):
        train(ring(), model="sasrec", out=tmp_path / "broken", settings=SETTINGS, on_epoch=stop)
    train(ring(), model="sasrec", out=tmp_path / "broken", settings=SETTINGS, resume=True)
    rows = rows_of(tmp_path / "whole")
    assert rows == rows_of(tmp_path / "broken")
    a, b = (load_recommender(Run.open(tmp_path / name)).score([[1, 2]]) for name in ("whole", "broken"))
    assert torch.equal(a, b)
    assert rows[-1]["loss"] < rows[0]["loss"]
    for row in rows:
        high, low, entropy, balance = (row[name] for name in FACTS)
        assert 0 <= low <= 1 / 3 <= high <= 1
        assert 0 < entropy <= math.log(3) + 1e-6
        assert 0 < balance <= 3


def test_the_balance_coefficient_reaches_the_loss(ring: Ring, tmp_path: Path) -> None:
    spread = {}
    for balance in (0.0, 1.0):
        ranker = {**SETTINGS["ranker"], "balance": balance}
        train(ring(), model="sasrec", out=tmp_path / str(balance), settings={**SETTINGS, "ranker": ranker})
        last = rows_of(tmp_path / str(balance))[-1]
        spread[balance] = last["expert_share_max"] - last["expert_share_min"]
    assert spread[1.0] < spread[0.0]


class Command:
    """Runs ``palate train`` in this process."""

    def __init__(self, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.data, self.monkeypatch, self.capsys = data, monkeypatch, capsys

    def __call__(self, *words: object) -> tuple[int, str]:
        self.monkeypatch.setattr(sys, "argv", ["palate", "train", str(self.data), *map(str, words)])
        self.monkeypatch.setenv("COLUMNS", "250")
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
        return code, self.capsys.readouterr().err


@pytest.fixture
def command(ring: Ring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    ring().save(tmp_path / "data")
    return Command(tmp_path / "data", monkeypatch, capsys)


def test_the_options_reach_the_ranker(command: Command, tmp_path: Path) -> None:
    code, _ = command(
        *("--model", "sasrec", "--out", tmp_path / "run", "--encoder-ffn", "moe", "--experts", 5, "--active", 2),
        *("--epochs", 1, "--device", "cpu", "--set", "ranker.dim=8", "--set", "ranker.balance=0.05"),
    )
    assert code == 0
    kept = Run.open(tmp_path / "run").info["options"]["settings"]["ranker"]
    wanted = {"ffn": "moe", "experts": 5, "active": 2, "balance": 0.05, "dim": 8}
    assert {name: kept[name] for name in wanted} == wanted
    assert load_recommender(Run.open(tmp_path / "run")).config.experts == 5  # type: ignore[attr-defined]


def test_a_recipe_may_hold_the_options(command: Command, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        '[train]\nmodel = "sasrec"\nencoder-ffn = "moe"\nexperts = 2\nepochs = 1\ndevice = "cpu"\n'
        "[train.ranker]\ndim = 8\nz_loss = 0.001\n"
    )
    code, error = command("--config", recipe, "--out", tmp_path / "run")
    assert code == 0, error
    kept = Run.open(tmp_path / "run").info["options"]["settings"]["ranker"]
    assert (kept["experts"], kept["active"], kept["z_loss"]) == (2, 1, 0.001)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--model", "gru4rec", "--encoder-ffn", "moe"), "gru4rec has no feed-forward layers"),
        (("--model", "popularity", "--experts", "4"), "--experts: popularity has no feed-forward layers"),
        (("--model", "sasrec", "--encoder-ffn", "sparse"), "--encoder-ffn sparse"),
        (("--model", "sasrec", "--experts", "4"), "experts is a setting of ffn = 'moe' (--encoder-ffn moe)"),
        (("--model", "sasrec", "--encoder-ffn", "dense", "--active", "1"), "active is a setting of ffn = 'moe'"),
        (("--model", "sasrec", "--encoder-ffn", "moe", "--active", "5"), "there are 4 experts only"),
    ],
)
def test_what_makes_no_sense_is_refused_before_a_run_is_made(
    words: tuple[str, ...], message: str, command: Command, tmp_path: Path
) -> None:
    code, error = command(*words, "--out", tmp_path / "run")
    assert code == 2
    assert message in error
    assert not (tmp_path / "run").exists()
