"""Two processes fine-tune one model: killed and resumed they end like two that were left alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sft_helpers import tiny_settings
from worlds import two_tastes

from palate.errors import PalateError
from palate.mllm.finetune.callback import last_checkpoint
from palate.mllm.finetune.sft import fine_tune

pytest.importorskip("trl")

SCRIPT = """
import json, os, sys, torch
from palate.data.dataset import Dataset
from palate.mllm.finetune.sft import fine_tune
torch.set_num_threads(1)
data, out, settings, stop = sys.argv[1:5]

def on_row(row):
    if row["step"] == int(stop):
        os._exit(9)

fine_tune(Dataset.load(data), out=out, settings=json.loads(settings), device="cpu", resume=True, on_row=on_row)
"""


def two_workers(script: Path, *words: object) -> int:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29573"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [*command, str(script), *map(str, words)], env=environment, capture_output=True, timeout=400, check=False
    )
    return done.returncode


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_two_workers_resume_between_two_validations(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    """From a checkpoint that was due by the clock; with dropout."""
    two_tastes(tmp_path)
    (tmp_path / "script.py").write_text(SCRIPT)
    numbers = {}
    for name, minutes, stops in (("whole", 60.0, [-1]), ("cut", 1e-9, [4, -1])):
        settings = tiny_settings(
            tiny("llama"),
            examples={"users": 8, "cutoffs": 2, "validate_users": 5},
            lora={"dropout": 0.3},
            trainer={"batch_size": 4, "epochs": 2, "validations_per_epoch": 1, "checkpoint_minutes": minutes},
        )
        for stop in stops:
            words = (tmp_path / "dataset", tmp_path / name, json.dumps(settings), stop)
            assert (two_workers(tmp_path / "script.py", *words) == 0) is (stop == -1)
            if stop == 4:
                complete = last_checkpoint(tmp_path / name / "checkpoints")
                assert complete is not None
                assert complete[0].name == "checkpoint-3"
        rows = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        numbers[name] = [
            (row["step"], row["AUC"], row["valid_loss"], row.get("loss"), row.get("tokens")) for row in rows
        ]
    assert numbers["cut"] == numbers["whole"]
    assert [step for step, *_ in numbers["cut"]] == [0, 4, 8]


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("loss", ["tokens", "options"])
def test_two_workers_resume_together(tiny: Callable[[str], Path], tmp_path: Path, loss: str) -> None:
    dataset = two_tastes(tmp_path)
    settings = tiny_settings(
        tiny("llama"),
        examples={"users": 8, "cutoffs": 2, "validate_users": 5},
        trainer={"batch_size": 4, "validations_per_epoch": 4, "loss": loss},
    )
    (tmp_path / "script.py").write_text(SCRIPT)
    words = (tmp_path / "script.py", tmp_path / "dataset")
    assert two_workers(*words, tmp_path / "whole", json.dumps(settings), -1) == 0
    assert two_workers(*words, tmp_path / "cut", json.dumps(settings), 3) != 0
    torn = tmp_path / "cut" / "checkpoints" / "checkpoint-9"
    torn.mkdir()
    (torn / "trainer_state.json").write_text("{")
    with pytest.raises(PalateError, match=r"was started with 2 worker"):
        fine_tune(dataset, out=tmp_path / "cut", settings=settings, device="cpu", resume=True)
    assert torn.exists()  # nothing was touched
    assert two_workers(*words, tmp_path / "cut", json.dumps(settings), -1) == 0
    found = []
    for name in ("whole", "cut"):
        assert json.loads((tmp_path / name / "run.json").read_text())["finished"]
        rows = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        found.append([(row["step"], row["AUC"], row["valid_loss"], row.get("loss")) for row in rows])
    assert found[0] == found[1]
    assert len(found[0]) == 5
