"""Two processes align one model: they reject the same items in every round, and end like one with twice the batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sft_helpers import tiny_settings
from worlds import two_tastes

from palate.mllm.alignment.align import align_mllm
from palate.mllm.finetune.sft import fine_tune
from palate.training.fit import train

pytest.importorskip("trl")

SCRIPT = """
import hashlib, json, os, sys, torch
from palate.mllm.alignment.pairs import PairData
from palate.mllm.alignment.align import align_mllm
torch.set_num_threads(1)
run, retriever, out, settings, stop, seen = sys.argv[1:7]
at = PairData.at

def watched(self, number):
    found = at(self, number)
    what = [found.examples.questions.candidates.tolist(), found.reference.tolist()]
    with open(f"{seen}-{os.environ['RANK']}", "a") as file:
        file.write(json.dumps([number, hashlib.sha256(json.dumps(what).encode()).hexdigest()]) + "\\n")
    return found

PairData.at = watched

def on_row(row):
    if row["step"] == int(stop):
        os._exit(9)

align_mllm(run, out=out, objective="hanorec", settings=json.loads(settings), device="cpu", retriever=retriever,
           resume=True, on_row=on_row)
"""


def two_workers(script: Path, *words: object) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29574"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [*command, str(script), *map(str, words)], env=environment, capture_output=True, timeout=400, check=False
    )


def rows_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_two_workers_reject_the_same_items(
    tiny: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path / "cache"))
    dataset = two_tastes(tmp_path)
    where = {"dataset_path": tmp_path / "dataset"}
    tuned = tiny_settings(
        tiny("llama"), examples={"users": 8, "cutoffs": 2, "validate_users": 5}, trainer={"loss": "options"}
    )
    run = fine_tune(dataset, out=tmp_path / "sft", settings=tuned, **where)
    fast = train(dataset, model="item-knn", out=tmp_path / "fast", **where)
    settings: dict[str, Any] = {
        "preference": {"hardness": "one"},
        "pairs": {"negatives": "top-k", "pool_k": 4, "depth": 8, "refresh_steps": 2},
        "lora": {"dropout": 0.0},
        "trainer": {"batch_size": 2, "accumulation": 1, "epochs": 2, "learning_rate": 1e-2, "keep": "last"},
    }
    settings["preference"]["noise"] = "none"
    (tmp_path / "script.py").write_text(SCRIPT)
    words = (tmp_path / "script.py", run.folder, fast.folder)
    done = two_workers(*words, tmp_path / "two", json.dumps(settings), -1, tmp_path / "whole")
    assert done.returncode == 0, done.stderr[-2000:]
    seen = [[json.loads(line) for line in (tmp_path / f"whole-{rank}").read_text().splitlines()] for rank in (0, 1)]
    assert seen[0] == seen[1]
    assert len({number for number, _ in seen[0]}) == 4
    assert len({digest for _, digest in seen[0]}) == 4
    # Responsiveness and the mean loss are those of the whole batch.
    settings["trainer"]["batch_size"] = 4
    one = align_mllm(
        run, out=tmp_path / "one", objective="hanorec", settings=settings, device="cpu", retriever=fast, dataset=dataset
    )
    both = rows_of(tmp_path / "two"), rows_of(one.folder)
    assert [row["step"] for row in both[0]] == [row["step"] for row in both[1]]
    for two_row, one_row in zip(*both, strict=True):
        assert two_row["AUC"] == pytest.approx(one_row["AUC"], abs=1e-6)
        assert two_row["valid_loss"] == pytest.approx(one_row["valid_loss"], abs=1e-4)
        if "loss" in two_row:
            assert two_row["loss"] == pytest.approx(one_row["loss"], abs=1e-4)
    # Killed and resumed they end the same.
    settings["trainer"]["batch_size"] = 2
    assert two_workers(*words, tmp_path / "cut", json.dumps(settings), 4, tmp_path / "c1").returncode != 0
    assert two_workers(*words, tmp_path / "cut", json.dumps(settings), -1, tmp_path / "c2").returncode == 0
    cut = [(row["step"], row["AUC"], row["valid_loss"], row.get("loss")) for row in rows_of(tmp_path / "cut")]
    assert cut == [(row["step"], row["AUC"], row["valid_loss"], row.get("loss")) for row in both[0]]
    # Noise on adapters is each worker's own and needs a clean forward besides; the cache is warm by now.
    settings["preference"] |= {"noise": "lora", "sigma": 0.05}
    settings["trainer"]["watch_every"] = 1
    for name in ("noisy", "again"):
        done = two_workers(*words, tmp_path / name, json.dumps(settings), -1, tmp_path / f"{name}-seen")
        assert done.returncode == 0, done.stderr[-2000:]
    noisy, again = (
        [(row["step"], row["AUC"], row.get("loss"), row.get("noise_ratio")) for row in rows_of(tmp_path / name)]
        for name in ("noisy", "again")
    )
    assert noisy == again
    assert noisy[-1][3] > 0
