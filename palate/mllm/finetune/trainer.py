"""What fine-tuning and alignment share: TRL's trainer with an adapter put on, and a watch around it."""

from __future__ import annotations

import math
import os
import random
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from palate.device import parse_device
from palate.errors import PalateError
from palate.features.hub import quiet
from palate.mllm.finetune.callback import TrainingCallback, callback, last_checkpoint, remove_torn
from palate.mllm.finetune.config import SFTTrainerConfig
from palate.mllm.finetune.examples import PromptCases
from palate.mllm.finetune.validation import METRICS, Validator
from palate.mllm.lm.chat_model import ChatModel, one_line
from palate.mllm.recommender import MLLMRecommender
from palate.runs.log import Row
from palate.runs.run import Run
from palate.runs.workers import gather_over

_SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}


def build_trainer(
    kind: type[Any],
    model: ChatModel,
    adapter: Any,
    lengths: Sequence[int],
    config: SFTTrainerConfig,
    *,
    batch_size: int,
    out: Path,
    device: str,
    seed: int,
    projector: bool = False,
    workers: int = 0,
    **own: Any,
) -> Any:
    """TRL's trainer with the adapter put on: from here on ``model`` has it too.

    Args:
        kind: an :func:`~palate.mllm.finetune.token_loss.token_loss_trainer`, or a class made from it.
        adapter: PEFT's settings.
        lengths: about how long each row of training is.
        batch_size: rows at a time.
        projector: whether the adapter reaches the layers between pictures and language.
        workers: processes that prepare batches ahead.
        own: what else ``kind`` takes.
    """
    from datasets import Dataset as Rows
    from transformers import PrinterCallback
    from trl import SFTConfig as TRLConfig

    with hushed():
        args = TRLConfig(
            output_dir=str(out / "checkpoints"),
            num_train_epochs=config.epochs,
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=config.accumulation,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            lr_scheduler_type=_SCHEDULES[config.schedule],
            warmup_steps=config.warmup_ratio,
            max_grad_norm=config.clip_norm,
            gradient_checkpointing=config.gradient_checkpointing,
            gradient_checkpointing_kwargs={"use_reentrant": False},
            # Weights stay in the precision they were loaded in, adapters are fp32: training computes as scoring does.
            bf16=False,
            fp16=False,
            use_cpu=device == "cpu",
            seed=seed,
            optim="adamw_torch",
            max_length=None,
            dataset_kwargs={"skip_prepare_dataset": True},
            remove_unused_columns=False,
            dataloader_num_workers=workers,
            # A batch without pictures leaves adapters of the projector without a gradient.
            ddp_find_unused_parameters=projector,
            dataloader_pin_memory=device.startswith("cuda"),
            save_strategy="no",  # the watch says when
            save_total_limit=2,
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
    if args.device.type == "cuda":
        args._n_gpu = 1  # several visible GPUs are used through torchrun, one a process
    try:
        with hushed():
            trainer = kind(
                model=model.core,
                args=args,
                train_dataset=Rows.from_dict({"row": list(range(len(lengths)))}),
                processing_class=model.tokenizer,
                peft_config=adapter,
                lengths=lengths,
                **own,
            )
    except ValueError as error:  # PEFT's, of layers that it cannot adapt or not with dropout (experts)
        raise PalateError(
            f"LoRA cannot be put on '{model.name}' ({model.family}) ({one_line(error)})",
            "Use --lora-dropout 0 where dropout is named, or another model.",
        ) from error
    trainer.processing_class = None  # checkpoints need no copy of it
    trainer.remove_callback(PrinterCallback)
    model.model = trainer.model
    return trainer


def run_trainer(
    trainer: Any,
    config: SFTTrainerConfig,
    recommender: MLLMRecommender,
    validation: PromptCases,
    run: Run,
    *,
    resume: bool,
    changing_eyes: bool = False,
    on_row: Callable[[Row], None] | None = None,
) -> dict[str, Any]:
    """Train, validate and keep the adapter as ``config`` says; returns what ``run.json`` is to say of it.

    Args:
        recommender: what is validated and saved: of the model that is trained.
        validation: what it is asked.
        changing_eyes: training changes what the model makes of a picture.
    """
    accelerator = trainer.accelerator
    judge = Validator(
        recommender,
        validation,
        changing_eyes=changing_eyes,
        gather=gather_over(accelerator),
        worker=accelerator.process_index,
        workers=accelerator.num_processes,
    )
    if resume and accelerator.is_main_process:
        remove_torn(run.folder / "checkpoints")
    accelerator.wait_for_everyone()  # nobody looks while folders vanish, and nobody trains while others look
    found = last_checkpoint(run.folder / "checkpoints") if resume else None
    accelerator.wait_for_everyone()
    batches = math.ceil(math.ceil(len(trainer.lengths) / trainer.args.train_batch_size) / accelerator.num_processes)
    steps = config.epochs * math.ceil(batches / config.accumulation)
    watch = TrainingCallback(trainer, judge, run, config, steps, found[1] if found else None, on_row)
    trainer.add_callback(callback(watch))
    began = time.perf_counter()
    try:
        with hushed():
            trainer.train(resume_from_checkpoint=str(found[0]) if found else None)
    finally:
        watch.close()
    if accelerator.is_main_process:
        shutil.rmtree(run.folder / "checkpoints", ignore_errors=True)
    return {
        **summary(watch.rows, METRICS[recommender.config.prompt.task], config),
        "wall_seconds": round(time.perf_counter() - began, 3),
        "unreadable_pictures": len(recommender.prompter.items.refused),
        "describe": judge.recommender.describe(),
    }


def summary(rows: list[Row], metric: str, config: SFTTrainerConfig) -> dict[str, Any]:
    """What ``run.json`` says of a finished training; ``best`` is the validation of the adapter that was kept."""
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
    if dtype == "float16":
        raise PalateError(
            "gradients overflow in float16, which is for scoring only",
            "Train with --dtype bfloat16, or float32 where the device has no bfloat16.",
        )


def check_out(out: Path, resume: bool) -> None:
    """Refuse an occupied folder before a model is loaded."""
    if (out / "run.json").exists() and not resume:
        raise PalateError(f"{out} holds a run already", "Choose another --out, or continue it with --resume.")


def workers_of(out: Path, workers: int, resume: bool) -> dict[str, int]:
    """How many workers train, as ``run.json`` says it: nothing for one. They share the examples out by their number."""
    if resume and (out / "run.json").exists():
        before = int(Run.open(out).info.get("workers", 1))
        if before != workers:
            raise PalateError(
                f"{out} was started with {before} worker(s), and now there are {workers}",
                f"Resume with torchrun --nproc-per-node {before}." if before > 1 else "Resume without torchrun.",
            )
    return {"workers": workers} if workers > 1 else {}


def device_of(name: str) -> str:
    """Where this process computes: under ``torchrun`` each has a GPU of its own."""
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
def hushed() -> Iterator[None]:
    """Without transformers' remarks on what TRL and PEFT still call by older names."""
    with warnings.catch_warnings(action="ignore", category=FutureWarning), quiet():
        yield


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
