"""Two processes train one model: the same weights in both, one of them writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from palate.data.dataset import Dataset

SCRIPT = """
import sys, torch
from palate.data.dataset import Dataset
from palate.training.fit import train
torch.set_num_threads(1)
settings = {"ranker": {"dim": 16, "max_length": 10, "dropout": 0.0},
            "trainer": {"epochs": 4, "batch_size": 8, "learning_rate": 0.01, "device": "cpu", "tensorboard": False}}
rows = []
train(Dataset.load(sys.argv[1]), model="sasrec", out=sys.argv[2], settings=settings, on_epoch=rows.append)
import json, os, pathlib
pathlib.Path(sys.argv[2], f"worker-{os.environ['RANK']}.json").write_text(json.dumps([r["NDCG@10"] for r in rows]))
"""


@pytest.mark.slow
def test_two_workers_agree(ring: Callable[..., Dataset], tmp_path: Path) -> None:
    ring().save(tmp_path / "data")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29571"]
    done = subprocess.run(
        [*command, str(script), str(tmp_path / "data"), str(tmp_path / "run")],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / "run" / f"worker-{i}.json").read_text()) for i in (0, 1))
    assert first == second
    assert first[-1] > first[0]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["finished"]
