"""Two processes train as one: the same losses, weights and metrics; one of them writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from palate.alignment.align import align
from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.features.folders import open_features
from palate.features.matrix import import_matrix
from palate.runs.run import Run
from palate.training.fit import train

RANKER = {"dim": 16, "max_length": 10, "dropout": 0.0}
# 80 windows in batches of 79: the last one has a single window, which only one of two workers has.
TRAINER = {"epochs": 3, "batch_size": 79, "learning_rate": 0.01, "device": "cpu", "tensorboard": False}
JOBS: dict[str, dict[str, Any]] = {
    "plain": {"model": "sasrec", "settings": {"ranker": RANKER, "trainer": TRAINER}},
    # The log has no times: what would learn from them waits for gradients all the same.
    "no times": {"model": "hstu", "settings": {"ranker": RANKER, "trainer": TRAINER}},
    "text": {
        "model": "gru4rec",
        "modalities": ["id", "text"],
        "settings": {"ranker": {**RANKER, "whiten": 4}, "trainer": {**TRAINER, "batch_size": 30, "stream": True}},
    },
    "in-batch": {
        "model": "gru4rec",
        "objective": "sampled-softmax",
        "settings": {
            "ranker": RANKER,
            "trainer": {**TRAINER, "batch_size": 16, "recency_half_life": 3.0, "clip_norm": 1.0, "item_rows": "always"},
            "objective": {"negatives": "in-batch"},
        },
    },
}
ALIGN: dict[str, Any] = {
    "objective": "dpo",
    "negatives": "hard",
    "settings": {"trainer": {"epochs": 2, "batch_size": 7, "tensorboard": False}, "align": {"positions": "last"}},
}
SCRIPT = """
import json, os, pathlib, sys, torch
from palate.alignment.align import align
from palate.data.dataset import Dataset
from palate.features.folders import open_features
from palate.training.fit import train
torch.set_num_threads(1)
folder, rank = pathlib.Path(sys.argv[1]), os.environ["RANK"]
data = Dataset.load(folder / "data")
features = open_features(folder / "data", data.catalogue, ("id", "text"), [])
rows, mapped = [], False
def note(row):
    global mapped
    rows.append(row)
    mapped |= "features.safetensors" in pathlib.Path("/proc/self/maps").read_text()
def stop(row):
    if row["epoch"] == 1:
        raise KeyboardInterrupt
for name, job in json.loads((folder / "jobs.json").read_text()).items():
    train(data, out=folder / f"{name} by two", on_epoch=note, features=features, **job)
assert mapped  # the workers' features are one file's pages
train(data, out=folder / "begun by one", resume=True, **job)
try:
    train(data, out=folder / "begun by two", on_epoch=stop, **job)
except KeyboardInterrupt:
    pass
base, setup = folder / "plain by one", json.loads((folder / "align.json").read_text())
align(base, out=folder / "aligned by two", on_epoch=rows.append, **setup)
hard = {"positions": "last", "share": 0.3, "watch_every": 1}
setup["settings"] |= {"align": hard, "preference": {"hardness": "one"}, "negatives": {"pool_k": 5}}
align(base, out=folder / "hanorec", on_epoch=rows.append, **{**setup, "objective": "hanorec", "negatives": "top-k"})
times = {"train_seconds", "eval_seconds", "targets_per_second", "peak_memory_mb"}
rows = [{k: v for k, v in row.items() if k not in times} for row in rows]
(folder / f"worker-{rank}.json").write_text(json.dumps(rows))
"""


def start(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", *words], env=environment, cwd=folder, capture_output=True, text=True, timeout=240
    )


def stop(row: dict[str, Any]) -> None:
    if row["epoch"] == 1:
        raise KeyboardInterrupt


def check_equal(run: Run, other: Run) -> None:
    """Losses to 1e-6, metrics exactly, weights to 1e-5."""
    rows = [[json.loads(line) for line in (r.folder / "metrics.jsonl").read_text().splitlines()] for r in (run, other)]
    assert len(rows[0]) == len(rows[1])
    for mine, theirs in zip(*rows, strict=True):
        assert mine["step"] == theirs["step"]
        for name in {"loss", "cross_entropy", "NDCG@10", "HitRate@10"} & set(mine):
            assert mine[name] == pytest.approx(theirs[name], rel=1e-6), name
    weights = [load_file(r.model_folder / "weights.safetensors") for r in (run, other)]
    assert set(weights[0]) == set(weights[1])
    for name, mine in weights[0].items():
        differences = np.abs(mine.astype(np.float64) - weights[1][name])
        if name.endswith("attention.inputs.bias"):  # of queries, keys, values
            # A softmax does not see the keys' bias: its gradient is rounding alone, which Adam blows up.
            differences[16:32] = 0
        assert differences.max() <= 1e-5, name


@pytest.mark.slow
def test_two_workers_equal_one(ring: Callable[..., Dataset], tmp_path: Path) -> None:
    data = ring()
    data.save(tmp_path / "data")
    np.save(tmp_path / "vectors.npy", np.random.default_rng(0).normal(size=(30, 9)).astype(np.float32))
    (tmp_path / "vectors.ids.txt").write_text("".join(f"item-{number}\n" for number in range(30)))
    data = Dataset.load(tmp_path / "data")
    import_matrix(data, tmp_path / "data", "text", tmp_path / "vectors.npy")
    features = open_features(tmp_path / "data", data.catalogue, ("id", "text"), [])
    alone = {
        name: train(data, out=tmp_path / f"{name} by one", dataset_path=tmp_path / "data", features=features, **job)
        for name, job in JOBS.items()
    }
    with pytest.raises(KeyboardInterrupt):
        train(data, out=tmp_path / "begun by one", on_epoch=stop, **JOBS["in-batch"])
    aligned = align(alone["plain"], out=tmp_path / "aligned by one", **ALIGN)
    (tmp_path / "jobs.json").write_text(json.dumps(JOBS))
    (tmp_path / "align.json").write_text(json.dumps(ALIGN))
    (tmp_path / "script.py").write_text(SCRIPT)
    done = start(["torch.distributed.run", "--standalone", "--nproc-per-node=2", "script.py", str(tmp_path)], tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / f"worker-{i}.json").read_text()) for i in (0, 1))
    assert first == second  # whatever decides about the training is known to both
    for name, run in alone.items():
        check_equal(run, Run.open(tmp_path / f"{name} by two"))
    check_equal(aligned, Run.open(tmp_path / "aligned by two"))
    check_equal(alone["in-batch"], Run.open(tmp_path / "begun by one"))
    resumed = train(data, out=tmp_path / "begun by two", resume=True, **JOBS["in-batch"])
    check_equal(alone["in-batch"], resumed)


def test_accelerate_that_starts_one_process_for_two_is_refused(ring: Callable[..., Dataset], tmp_path: Path) -> None:
    ring().save(tmp_path / "data")
    launch = "accelerate.commands.launch --cpu --num_processes 2 --num_machines 1 -m palate train data --out run"
    done = start([*launch.split(), "--model", "sasrec", "--modalities", "id", "--neighbours", "none"], tmp_path)
    assert done.returncode
    assert "torchrun --nproc-per-node 2" in done.stderr
    assert not (tmp_path / "run").exists()


def test_each_worker_has_random_streams_of_its_own() -> None:
    from palate.runs.workers import Workers
    from palate.training.checkpoint import WorkerState

    with torch.random.fork_rng():
        draws = []
        for index in range(3):
            torch.manual_seed(5)
            own = WorkerState.start(5, Workers(index, 3))
            draws.append((float(torch.rand(1)), float(torch.rand(1, generator=own.generator))))
        torch.manual_seed(5)
        usual = float(torch.rand(1)), float(torch.rand(1, generator=torch.Generator().manual_seed(5)))
    assert draws[0] == usual
    assert len({dropout for dropout, _ in draws}) == len({negatives for _, negatives in draws}) == 3


def test_more_workers_than_sequences_of_a_batch_are_refused(
    ring: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from palate.runs.workers import Workers
    from palate.training import loop

    monkeypatch.setattr(loop.Workers, "of", lambda accelerator: Workers(0, 4))
    settings = {"ranker": RANKER, "trainer": {**TRAINER, "batch_size": 3}}
    with pytest.raises(PalateError, match=r"4 workers share batches of 3 sequences\. Raise trainer\.batch_size"):
        train(ring(), model="sasrec", out=tmp_path / "run", settings=settings)
