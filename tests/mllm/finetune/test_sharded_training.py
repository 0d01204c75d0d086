"""Two processes fine-tune and align as one does, with the whole model on each or its weights divided (FSDP2)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from sft_helpers import tiny_settings
from worlds import two_tastes

from palate.errors import PalateError
from palate.mllm.alignment.align import align_mllm
from palate.mllm.finetune.collate import LengthBuckets
from palate.mllm.finetune.sft import fine_tune
from palate.mllm.finetune.trainer import LossSum, adapter_trainer
from palate.runs.run import Run

pytest.importorskip("trl")

SCRIPT = """
import json, pathlib, sys, torch
from palate.data.dataset import Dataset
from palate.mllm.alignment.align import align_mllm
from palate.mllm.finetune.sft import fine_tune
from palate.mllm.finetune import trainer
from palate.mllm.finetune.callback import TrainingCallback
torch.set_num_threads(1)
folder = pathlib.Path(sys.argv[1])
data = Dataset.load(folder / "dataset")
where = {"device": "cpu", "dataset_path": folder / "dataset"}
held = []
shard = trainer.shard
def watched(model, trainer):
    whole = sum(one.numel() for one in model.core.parameters())
    shard(model, trainer)
    held.append(sum(one.to_local().numel() for one in model.core.parameters()) / whole)
trainer.shard = watched
saved = TrainingCallback.saved_checkpoint
def stop(self, state):
    saved(self, state)
    if state.global_step == 2:
        raise KeyboardInterrupt
for name, job in json.loads((folder / "jobs.json").read_text()).items():
    make = align_mllm if job.pop("align") else fine_tune
    first = folder / "one" if make is align_mllm else data
    if job.pop("cut"):
        TrainingCallback.saved_checkpoint = stop
        try:
            make(first, out=folder / name, **job, **where)
        except KeyboardInterrupt:
            TrainingCallback.saved_checkpoint = saved
    make(first, out=folder / name, resume=True, **job, **where)
assert held and all(0.4 < share < 0.6 for share in held), held
"""


def adapter_of(run: Path) -> dict[str, Any]:
    return load_file(run / "model" / "adapter" / "adapter_model.safetensors")


def check_equal(run: Path, other: Path) -> None:
    """Adapters to 1e-5; logged numbers to 1e-5, tokens exactly."""
    mine, theirs = adapter_of(run), adapter_of(other)
    assert mine.keys() == theirs.keys()
    assert max(float((mine[name] - theirs[name]).abs().max()) for name in mine) <= 1e-5
    rows = [[json.loads(line) for line in (one / "metrics.jsonl").read_text().splitlines()] for one in (run, other)]
    for row, same in zip(*rows, strict=True):
        for name in ("step", "loss", "AUC", "valid_loss", "tokens"):
            assert (name in row) == (name in same)
            assert name not in row or row[name] == pytest.approx(same[name], rel=1e-5), name


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_workers_equal_one(tiny: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path / "cache"))
    data = two_tastes(tmp_path)

    def tuning(batch_size: int, loss: str, **trainer: Any) -> dict[str, Any]:
        # 7 positions: the last step has fewer rows than workers have places, and one of them may have none at all.
        examples = {"users": 7, "validate_users": 2}
        keep = {"batch_size": batch_size, "loss": loss, "learning_rate": 1e-2, "keep": "last"}
        lora = {"dropout": 0.0}
        images = {"images": "candidate"}
        return tiny_settings(tiny("llava"), prompt=images, examples=examples, lora=lora, trainer={**keep, **trainer})

    def alignment(batch_size: int, **trainer: Any) -> dict[str, Any]:
        keep = {"batch_size": batch_size, "accumulation": 2, "learning_rate": 1e-2, "keep": "last"}
        return {
            "preference": {"hardness": "one", "noise": "none"},
            "lora": {"dropout": 0.0},
            "trainer": {**keep, "validations_per_epoch": 1, **trainer},
        }

    where = {"device": "cpu", "dataset_path": tmp_path / "dataset"}
    halves = {"validations_per_epoch": 2}
    fine_tune(data, out=tmp_path / "tokens", settings=tuning(4, "tokens"), **where)
    one = fine_tune(data, out=tmp_path / "one", settings=tuning(4, "options", **halves), **where)
    align_mllm(one, out=tmp_path / "aligned", objective="hanorec", settings=alignment(4), **where)
    sharded = {"fsdp": True, "gradient_checkpointing": True}
    jobs = {
        "tokens by two": {"settings": tuning(2, "tokens"), "align": False, "cut": False},
        "tokens sharded": {"settings": tuning(2, "tokens", fsdp=True), "align": False, "cut": False},
        "sharded": {"settings": tuning(2, "options", **halves, **sharded), "align": False, "cut": True},
        "aligned by two": {"settings": alignment(2), "objective": "hanorec", "align": True, "cut": False},
        "aligned sharded": {"settings": alignment(2, fsdp=True), "objective": "hanorec", "align": True, "cut": False},
    }
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "script.py"]
    # Without references that one process has stored.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PALATE_CACHE": str(tmp_path / "own")}
    done = subprocess.run(
        [*command, str(tmp_path)], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-4000:]
    for name, alone in {"tokens": "tokens", "sharded": "one", "aligned": "aligned"}.items():
        for other in {name, f"{name} by two", f"{name} sharded"} & set(jobs):
            check_equal(tmp_path / other, tmp_path / alone)
    assert not list((tmp_path / "sharded").glob("checkpoints"))
    assert Run.open(tmp_path / "sharded").finished


def test_what_cannot_be_sharded_is_refused(
    tiny: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = two_tastes(tmp_path)

    def start(fsdp: bool = True, **sections: dict[str, Any]) -> None:
        settings = tiny_settings(tiny("llama"), trainer={"fsdp": fsdp}, **sections)
        fine_tune(data, out=tmp_path / "run", settings=settings, device="cpu")

    with pytest.raises(PalateError, match=r"there is one\. Start them with torchrun"):
        start()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(PalateError, match="cannot train the projector"):
        start(lora={"projector": True})
    with pytest.raises(PalateError, match="does not divide 4bit weights"):
        start(model={"quantisation": "4bit"})
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(PalateError, match=r"--set trainer\.fsdp=true"):
        start(fsdp=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("count", [0, torch.tensor(0)])
def test_a_batch_of_fillers_alone_adds_nothing_where_no_tokens_are_counted(count: torch.Tensor | int) -> None:
    found = LossSum(torch.zeros(1, requires_grad=True).sum(), count, torch.tensor(5))
    trainer = SimpleNamespace(step_loss=lambda *_: found, _count=lambda *_: None, _scale=lambda _: 1)
    assert adapter_trainer().compute_loss(trainer, None, {}).item() == 0


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("rows", [1, 12, 17])
def test_workers_divide_each_step_and_no_row_counts_twice(rows: int, workers: int) -> None:
    lengths, batch, steps = list(range(rows)), 2, 3
    alone = list(LengthBuckets(lengths, batch * workers * steps, 5, lambda: 1))
    sampler = LengthBuckets(lengths, batch * workers * steps, 5, lambda: 1, batch=batch, workers=workers)
    order = list(sampler)
    assert len(order) == len(sampler)
    assert len(order) % (batch * workers) == 0
    for start in range(0, len(order), batch * workers):
        together = order[start : start + batch * workers]
        parts = [[row for row in together[at : at + batch] if row >= 0] for at in range(0, len(together), batch)]
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        assert sorted(row for part in parts for row in part) == sorted(alone[start : start + batch * workers])
