"""A run of fine-tuning or alignment: its folder, its workers, and training until the adapter is saved."""

from __future__ import annotations

import math
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from palate.data.dataset import Dataset
from palate.device import parse_device
from palate.errors import PalateError
from palate.mllm.finetune.callback import TrainingCallback, callback, last_checkpoint, remove_torn
from palate.mllm.finetune.config import SFTTrainerConfig
from palate.mllm.finetune.examples import PromptCases
from palate.mllm.finetune.trainer import StepLoss, hushed
from palate.mllm.finetune.validation import METRICS, Validator
from palate.mllm.recommender import MLLMRecommender
from palate.runs.launch import check_launcher
from palate.runs.log import Row
from palate.runs.run import Run, check_new
from palate.runs.start import run_to_train
from palate.runs.workers import Workers


@contextmanager
def training_run(
    trainer: Any,
    out: Path,
    identity: dict[str, Any],
    facts: Mapping[str, Any],
    dataset: Dataset,
    dataset_path: Path | str | None,
    resume: bool,
) -> Iterator[Run]:
    """:func:`palate.runs.start.run_to_train` by the workers of a trainer, all of which come to its end together."""
    workers: Workers = trainer.workers
    facts = {**facts, **worker_facts(out, workers.count, resume)}
    with run_to_train(
        out, identity, dataset, dataset_path=dataset_path, resume=resume, facts=facts, workers=workers
    ) as run:
        yield run
        workers.wait()


def run_trainer(
    trainer: Any,
    loss: StepLoss,
    recommender: MLLMRecommender,
    validation: PromptCases,
    run: Run,
    *,
    resume: bool,
    on_row: Callable[[Row], None] | None = None,
) -> dict[str, Any]:
    """Train, validate and save the adapter as the trainer's settings say; returns facts for ``run.json``.

    Args:
        trainer: made by :func:`build_trainer`.
        loss: what is minimised.
        recommender: what is validated and saved: of the model that is trained.
        validation: the cases of validation.
    """
    config: SFTTrainerConfig = trainer.settings
    workers: Workers = trainer.workers
    trainer.step_loss = loss
    together = Workers() if recommender.model.sharded else workers  # sharded: all workers score all cases
    validator = Validator(recommender, validation, forget_pictures=trainer.projector, workers=together)
    if resume and workers.main:
        remove_torn(run.folder / "checkpoints")
    workers.wait()  # no worker reads while folders vanish, and none trains while others read
    found = last_checkpoint(run.folder / "checkpoints") if resume else None
    workers.wait()
    batches = math.ceil(math.ceil(len(trainer.lengths) / trainer.args.train_batch_size) / workers.count)
    steps = config.epochs * math.ceil(batches / config.accumulation)
    watch = TrainingCallback(trainer, validator, run, steps, found[1] if found else None, on_row)
    trainer.add_callback(callback(watch))
    began = time.perf_counter()
    try:
        with hushed():
            trainer.train(resume_from_checkpoint=str(found[0]) if found else None)
    finally:
        watch.close()
    if workers.main:
        shutil.rmtree(run.folder / "checkpoints", ignore_errors=True)
    return {
        **summary(watch.rows, METRICS[recommender.config.prompt.task], config),
        "wall_seconds": round(time.perf_counter() - began, 3),
        "unreadable_pictures": len(recommender.prompter.items.refused),
        "describe": recommender.describe(),
    }


def summary(rows: list[Row], metric: str, config: SFTTrainerConfig) -> dict[str, Any]:
    """Facts of a finished training for ``run.json``; ``best`` is the validation of the adapter that was saved."""
    best = rows[-1] if config.keep == "last" else max(rows, key=lambda row: float(row[metric]))
    return {
        "seconds": round(sum(row["train_seconds"] + row["eval_seconds"] for row in rows), 3),
        "epochs": config.epochs,
        "metric": metric,
        "best": {key: value for key, value in best.items() if not key.endswith("seconds")},
        "tokens": sum(row.get("tokens", 0) for row in rows),
        "peak_memory_mb": max(row["peak_memory_mb"] for row in rows),
    }


def check_precision(dtype: str) -> None:
    """Refuse a precision that cannot be trained in."""
    if dtype == "float16":
        raise PalateError(
            "gradients overflow in float16, which is for scoring only",
            "Train with --dtype bfloat16, or float32 where the device has no bfloat16.",
        )


def check_out(out: Path, resume: bool) -> None:
    """Refuse an occupied folder before a model is loaded."""
    if not resume:
        check_new(out)


def worker_facts(out: Path, workers: int, resume: bool) -> dict[str, int]:
    """How many workers train, for ``run.json``: nothing for one. A resumed run needs as many as it was started with."""
    if resume and (out / "run.json").exists():
        before = int(Run.open(out).info.get("workers", 1))
        if before != workers:
            raise PalateError(
                f"{out} was started with {before} worker(s), and now there are {workers}",
                f"Resume with torchrun --nproc-per-node {before}." if before > 1 else "Resume without torchrun.",
            )
    return {"workers": workers} if workers > 1 else {}


def training_device(name: str) -> str:
    """Where this process computes: under ``torchrun`` each has a GPU of its own."""
    check_launcher(os.environ)
    place = parse_device(name)
    if place.startswith("cuda"):
        workers = int(os.environ.get("WORLD_SIZE", "1"))
        if workers > 1:
            place = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        elif place not in ("cuda", "cuda:0"):
            raise PalateError(
                f"fine-tuning takes the first GPU it sees, not '{place}'",
                f"Use --device cuda with the environment variable CUDA_VISIBLE_DEVICES={place.partition(':')[2]}.",
            )
    return place


@contextmanager
def random_state() -> Iterator[None]:
    """Give the global generators back as they were: the trainer seeds all of them."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  (restored, not drawn from)
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
