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
from palate.training.fit import train

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

ALIGN = """
import sys, torch
from palate.data.dataset import Dataset
from palate.alignment.align import align
torch.set_num_threads(1)
settings = {"trainer": {"epochs": 2, "batch_size": 4, "tensorboard": False},
            "align": {"positions": "last", "share": 0.3, "watch_every": 1},
            "preference": {"hardness": "one"}, "negatives": {"pool_k": 5}}
rows = []
align(sys.argv[1], out=sys.argv[2], objective="hanorec", settings=settings, on_epoch=rows.append)
import json, os, pathlib
pathlib.Path(sys.argv[2], f"worker-{os.environ['RANK']}.json").write_text(json.dumps([r["NDCG@10"] for r in rows]))
"""


def two_workers(script: Path, *words: object) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29571"]
    done = subprocess.run(
        [*command, str(script), *map(str, words)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_two_workers_align_together_even_where_one_has_no_pairs(ring: Callable[..., Dataset], tmp_path: Path) -> None:
    data = ring()
    data.save(tmp_path / "data")
    settings = {"ranker": {"dim": 16, "max_length": 10}, "trainer": {"epochs": 2, "device": "cpu"}}
    run = train(data, model="sasrec", out=tmp_path / "base", settings=settings, dataset_path=tmp_path / "data")
    script = tmp_path / "script.py"
    script.write_text(ALIGN)
    two_workers(script, run.folder, tmp_path / "run")
    first, second = (json.loads((tmp_path / "run" / f"worker-{i}.json").read_text()) for i in (0, 1))
    assert first == second
    assert json.loads((tmp_path / "run" / "run.json").read_text())["finished"]


@pytest.mark.slow
def test_two_workers_agree(ring: Callable[..., Dataset], tmp_path: Path) -> None:
    ring().save(tmp_path / "data")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    two_workers(script, tmp_path / "data", tmp_path / "run")
    first, second = (json.loads((tmp_path / "run" / f"worker-{i}.json").read_text()) for i in (0, 1))
    assert first == second
    assert first[-1] > first[0]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["finished"]
