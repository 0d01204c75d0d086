"""Training end to end: it learns, it is seeded, it resumes to the bit, it refuses what makes no sense."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from palate.data.dataset import Dataset, Part
from palate.errors import PalateError
from palate.evaluation.ranking import rank_targets
from palate.rankers.registry import load_recommender
from palate.runs.run import Run
from palate.training.fit import train
from palate.training.validation import Validation

Ring = Callable[..., Dataset]
SMALL: dict[str, dict[str, Any]] = {
    "ranker": {"dim": 16, "max_length": 10, "dropout": 0.2},
    "trainer": {"epochs": 6, "batch_size": 16, "learning_rate": 0.01, "device": "cpu"},
}
TIMES = ("train_seconds", "eval_seconds", "targets_per_second", "peak_memory_mb")


def rows_of(run: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


@pytest.mark.parametrize("model", ["sasrec", "gru4rec"])
@pytest.mark.parametrize("objective", ["cross-entropy", "sampled-softmax", "gbce", "bpr"])
def test_every_objective_learns_the_ring(model: str, objective: str, ring: Ring, tmp_path: Path) -> None:
    data = ring()
    settings = {**SMALL, "trainer": {**SMALL["trainer"], "epochs": 25, "patience": 0}}
    if objective == "gbce":  # leaves the plateau of "nothing is likely" late, the later the more negatives there are
        settings["objective"] = {"num_negatives": 4}
        settings["trainer"]["epochs"] = 60
    run = train(data, model=model, out=tmp_path / "run", objective=objective, settings=settings)
    ranks = rank_targets(load_recommender(run), data.cases("test"), exclude_seen=False)
    chance = (ranks.num_candidates + 1) / 2
    assert float(ranks.values.mean()) < 0.5 * float(chance.mean())


def test_a_run_holds_what_traces_it(ring: Ring, tmp_path: Path) -> None:
    data = ring()
    run = train(data, model="sasrec", out=tmp_path / "run", seed=3, settings=SMALL, dataset_path=tmp_path)
    info = Run.open(tmp_path / "run").info
    assert info["seed"] == 3
    assert info["dataset"]["fingerprint"] == data.fingerprint
    assert info["options"]["settings"]["ranker"]["dim"] == 16
    assert {"palate", "torch", "commit"} <= set(info["environment"])
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(1, 7))
    wanted = {"epoch", "step", "loss", "train_seconds", "eval_seconds", "targets_per_second", "peak_memory_mb"}
    assert wanted | {"NDCG@10"} <= set(rows[0])
    assert (run.folder / "learning-curve.png").read_bytes().startswith(b"\x89PNG")
    best = max(rows, key=lambda row: row["NDCG@10"])
    kept = Validation(data, "NDCG@10", exclude_seen=True)(load_recommender(run))
    assert kept["NDCG@10"] == pytest.approx(best["NDCG@10"], abs=1e-9)


def test_same_seed_same_run_other_seed_other_run(ring: Ring, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(ring(), model="sasrec", out=tmp_path / name, seed=seed, settings=SMALL)
    assert rows_of(tmp_path / "a") == rows_of(tmp_path / "b")
    assert rows_of(tmp_path / "a") != rows_of(tmp_path / "c")


class Stop(Exception):
    pass


@pytest.mark.parametrize(
    ("model", "objective", "trainer"),
    [
        ("sasrec", "cross-entropy", {"ema": 0.9, "schedule": "cosine", "warmup_steps": 5}),
        ("gru4rec", "sampled-softmax", {"checkpoint_minutes": 1e-6}),
    ],
)
def test_interrupted_between_epochs_it_ends_the_same(
    model: str, objective: str, trainer: dict[str, Any], ring: Ring, tmp_path: Path
) -> None:
    settings = {**SMALL, "trainer": {**SMALL["trainer"], **trainer}}
    options: dict[str, Any] = {"model": model, "objective": objective, "settings": settings}
    train(ring(), out=tmp_path / "whole", **options)

    def stop(row: dict[str, Any]) -> None:
        if row["epoch"] == 2:
            raise Stop

    with pytest.raises(Stop):
        train(ring(), out=tmp_path / "broken", on_epoch=stop, **options)
    train(ring(), out=tmp_path / "broken", resume=True, **options)
    assert rows_of(tmp_path / "broken") == rows_of(tmp_path / "whole")
    a, b = (load_recommender(Run.open(tmp_path / name)).score([[1, 2]]) for name in ("whole", "broken"))
    assert torch.equal(a, b)


SCRIPT = """
import sys, torch
from pathlib import Path
from palate.data.dataset import Dataset, Part
from palate.training.fit import train
torch.set_num_threads(1)
data = Dataset.load(sys.argv[1])
settings = {"ranker": {"dim": 16, "max_length": 10}, "trainer": {"epochs": 12, "batch_size": 4, "device": "cpu",
            "checkpoint_minutes": 1e-6, "patience": 0, "tensorboard": False}}
train(data, model="sasrec", out=sys.argv[2], settings=settings, resume=True)
"""


def test_killed_with_sigkill_it_ends_the_same(ring: Ring, tmp_path: Path) -> None:
    """Killed at no chosen moment, in the middle of epochs too, and more than once."""
    ring(users=60).save(tmp_path / "data")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(out: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(script), str(tmp_path / "data"), str(tmp_path / out)]
        return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)

    assert start("whole").wait() == 0
    metrics = tmp_path / "broken" / "metrics.jsonl"
    kills = 0
    for rows in (1, 5):
        process = start("broken")
        while process.poll() is None:
            if metrics.exists() and len(metrics.read_text().splitlines()) >= rows:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.005)
        kills += process.wait() == -signal.SIGKILL
    assert kills
    assert start("broken").wait() == 0
    assert rows_of(tmp_path / "broken") == rows_of(tmp_path / "whole")


def test_resume_refuses_other_options_and_other_data(ring: Ring, tmp_path: Path) -> None:
    train(ring(), model="sasrec", out=tmp_path / "run", settings=SMALL)
    with pytest.raises(PalateError, match="holds a run already"):
        train(ring(), model="sasrec", out=tmp_path / "run", settings=SMALL)
    with pytest.raises(PalateError, match="another seed"):
        train(ring(), model="sasrec", out=tmp_path / "run", settings=SMALL, seed=1, resume=True)
    with pytest.raises(PalateError, match="other data"):
        train(ring(seed=5), model="sasrec", out=tmp_path / "run", settings=SMALL, resume=True)
    again = train(ring(), model="sasrec", out=tmp_path / "run", settings=SMALL, resume=True)
    assert again.info["finished"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "sasrek"}, "Did you mean 'sasrec'"),
        ({"model": "sasrec", "objective": "bprr"}, "Did you mean 'bpr'"),
        ({"model": "sasrec", "modalities": ("id", "text")}, "no features for the modality 'text'"),
        ({"model": "sasrec", "settings": {"ranker": {"dropuot": 0.1}}}, "Did you mean 'dropout'"),
        ({"model": "sasrec", "settings": {"rankr": {}}}, "Did you mean 'ranker'"),
        ({"model": "sasrec", "settings": {"ranker": {"dropout": 1.5}}}, "dropout"),
        ({"model": "sasrec", "settings": {"trainer": {"metric": "NDGC@10"}}}, "Did you mean 'ndcg'"),
        ({"model": "sasrec", "settings": {"trainer": {"metric": "NDCG"}}}, "cut-off"),
        ({"model": "sasrec", "settings": {"trainer": {"metric": "coverage@10"}}}, "cannot choose an epoch"),
        ({"model": "sasrec", "settings": {"trainer": {"metric": "ndcg@\u00b2"}}}, "cut-off"),
        ({"model": "sasrec", "features": {}, "stores": ["text=other"]}, "stores= are of the dataset's folder"),
        ({"model": "sasrec", "modalities": "id,text"}, r"Write \['id', 'text'\]"),
        ({"model": "sasrec", "settings": {"trainer": {"device": "foo"}}}, "foo"),
        ({"model": "sasrec", "settings": {"trainer": {"betas": [2, 3]}}}, "betas"),
        ({"model": "sasrec", "settings": {"ranker": {"heads": 3}}}, "do not divide"),
        ({"model": "sasrec", "settings": {"ranker": {"missing": "zeros"}}}, "--missing"),
        ({"model": "sasrec", "warm_start": "nowhere"}, "nowhere"),
        ({"model": "popularity", "warm_start": "nowhere"}, "no weights"),
        ({"model": "popularity", "objective": "bpr"}, "no objective"),
        ({"model": "popularity", "modalities": ("id", "text")}, "ids only.*, hstu.*tiger"),
        ({"model": "popularity", "settings": {"trainer": {"epochs": 3}}}, "not trained by gradient"),
    ],
)
def test_mistakes_are_refused_before_any_work(
    options: dict[str, Any], message: str, ring: Ring, tmp_path: Path
) -> None:
    with pytest.raises(PalateError, match=message):
        train(ring(), out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_settings_that_nothing_reads_are_named(ring: Ring, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = {**SMALL["trainer"], "epochs": 1, "stream_buffer": 9, "validate_every": 2, "validations_per_epoch": 2}
    settings = {**SMALL, "objective": {"power": 0.5}, "trainer": trainer}
    train(ring(), model="sasrec", objective="bpr", out=tmp_path / "run", settings=settings)
    assert [line for line in capsys.readouterr().err.splitlines() if line.startswith("Note:")] == [
        "Note: settings [trainer]: 'stream_buffer' does nothing without stream.",
        "Note: settings [trainer]: 'validate_every' does nothing without validations_per_epoch 1.",
        "Note: settings [objective] of bpr: 'power' does nothing without negatives popularity.",
    ]


def test_a_loss_that_explodes_is_told(ring: Ring, tmp_path: Path) -> None:
    settings = {**SMALL, "trainer": {**SMALL["trainer"], "learning_rate": 1e30}}
    with pytest.raises(PalateError, match="learning_rate"):
        train(ring(), model="sasrec", out=tmp_path / "run", settings=settings)


def test_warm_start_moves_vectors_with_their_items(ring: Ring, tmp_path: Path) -> None:
    first = train(ring(), model="sasrec", out=tmp_path / "first", settings=SMALL)
    # The new catalogue lacks the first five items, has five new ones, and so numbers the rest otherwise.
    later = ring(first_item=5, seed=2)
    settings = {**SMALL, "trainer": {**SMALL["trainer"], "epochs": 1, "learning_rate": 1e-9}}
    second = train(later, model="sasrec", out=tmp_path / "second", settings=settings, warm_start=tmp_path / "first")
    old, new = load_recommender(first), load_recommender(second)
    for item in ("item-5", "item-29"):
        before = old.table()[first.catalogue.index[item]]  # type: ignore[attr-defined]
        after = new.table()[second.catalogue.index[item]]  # type: ignore[attr-defined]
        torch.testing.assert_close(before, after, atol=1e-5, rtol=1e-4)
    other = {**SMALL, "ranker": {**SMALL["ranker"], "dim": 32}}
    with pytest.raises(PalateError, match="same ranker settings"):
        train(later, model="sasrec", out=tmp_path / "third", settings=other, warm_start=tmp_path / "first")


class Store:
    """A feature store in memory: standard normal vectors, the same for an item wherever it stands."""

    fingerprint = "memory"

    def __init__(self, data: Dataset, width: int = 12) -> None:
        numbers = [int(name.split("-")[1]) for name in data.catalogue.ids[1:]]
        rows = [np.random.default_rng(number).normal(size=width) for number in numbers]
        self.vectors = np.vstack([np.zeros(width), *rows]).astype(np.float32)
        self.present = np.arange(len(self.vectors)) > 0

    def describe(self) -> dict[str, Any]:
        return {"fingerprint": self.fingerprint}


def test_warm_start_reads_features_as_the_first_run_did(ring: Ring, tmp_path: Path) -> None:
    """Whitening is a rotation that depends on the catalogue; the trained projection knows only its own."""
    settings = {**SMALL, "ranker": {**SMALL["ranker"], "whiten": 6}}
    data, later = ring(), ring(first_item=5, seed=2)
    options: dict[str, Any] = {"model": "sasrec", "modalities": ("text",)}
    first = train(data, out=tmp_path / "first", features={"text": Store(data)}, settings=settings, **options)  # type: ignore[dict-item]
    settings = {**settings, "trainer": {**SMALL["trainer"], "epochs": 1, "learning_rate": 1e-9}}
    second = train(
        later,
        out=tmp_path / "second",
        features={"text": Store(later)},  # type: ignore[dict-item]
        settings=settings,
        warm_start=tmp_path / "first",
        **options,
    )
    old, new = load_recommender(first), load_recommender(second)
    before = old.table()[[first.catalogue.index[f"item-{i}"] for i in range(5, 30)]]  # type: ignore[attr-defined]
    after = new.table()[[second.catalogue.index[f"item-{i}"] for i in range(5, 30)]]  # type: ignore[attr-defined]
    torch.testing.assert_close(before, after, atol=1e-4, rtol=1e-3)


def test_people_without_a_history_get_what_is_popular(ring: Ring, tmp_path: Path) -> None:
    data = ring()
    run = train(data, model="sasrec", out=tmp_path / "run", settings=SMALL)
    model = load_recommender(run)
    counts = torch.from_numpy(data.train_counts).float()
    assert torch.equal(model.score([[], [1, 2]])[0, 1:], counts[1:])
    assert torch.equal(model.score([[]], torch.tensor([[3, 7]]))[0], counts[[3, 7]])


@pytest.mark.parametrize("model", ["sasrec", "gru4rec"])
@pytest.mark.parametrize("objective", ["cross-entropy", "gbce"])
def test_mixed_precision_trains(model: str, objective: str, ring: Ring, tmp_path: Path) -> None:
    settings = {**SMALL, "trainer": {**SMALL["trainer"], "epochs": 2, "precision": "bf16"}}
    run = train(ring(), model=model, objective=objective, out=tmp_path / "run", settings=settings)
    assert run.info["finished"]


def test_a_dataset_with_nothing_to_learn_is_refused(ring: Ring, tmp_path: Path) -> None:
    data = ring()
    parts = data.parts.copy()
    parts[parts == Part.TRAIN] = Part.CONTEXT
    with pytest.raises(PalateError, match="nothing to learn"):
        train(replace(data, parts=parts), model="sasrec", out=tmp_path / "run", settings=SMALL)
