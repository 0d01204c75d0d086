"""What fine-tuning and alignment share: TRL's trainer with an adapter put on, a loss handed to it, and the run around.

Which loss is minimised is an object of its own (:class:`StepLoss`): the answer's tokens
(:mod:`palate.mllm.finetune.token_loss`), the answer among those allowed (:mod:`palate.mllm.finetune.option_loss`), or a
preference (:mod:`palate.mllm.alignment.trainer`).
"""

from __future__ import annotations

import inspect
import math
import os
import random
import shutil
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from palate.data.dataset import Dataset
from palate.device import parse_device
from palate.errors import PalateError
from palate.features.hub import quiet
from palate.mllm.finetune.callback import TrainingCallback, callback, last_checkpoint, remove_torn
from palate.mllm.finetune.collate import LengthBuckets
from palate.mllm.finetune.config import LoraConfig, SFTTrainerConfig
from palate.mllm.finetune.examples import PromptCases
from palate.mllm.finetune.lora import peft_config
from palate.mllm.finetune.validation import METRICS, Validator
from palate.mllm.lm.chat_model import IGNORED, ChatModel, one_line
from palate.mllm.recommender import MLLMRecommender
from palate.runs.log import Row
from palate.runs.run import Run
from palate.runs.start import open_run
from palate.runs.workers import Workers
from palate.storage.lock import one_writer

_SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}


@dataclass(frozen=True)
class LossSum:
    """The loss of one forward.

    Attributes:
        total: summed over what is learnt from.
        count: how many tokens, prompts or pairs that is.
        read: tokens that went through the model.
    """

    total: Tensor
    count: Tensor | int
    read: Tensor


class StepLoss(ABC):
    """The loss of one forward, and numbers for the log besides it."""

    @abstractmethod
    def __call__(self, trainer: Any, model: Any, batch: dict[str, Any]) -> LossSum | None:
        """The loss of a batch; None leaves it to TRL's own.

        Args:
            trainer: an :func:`adapter_trainer`; it knows the step and the forward's number.
            model: what is called: the trainer's, or a wrapper around it (distributed training).
        """

    def facts(self) -> dict[str, float]:
        """Numbers for the log since this was last called; all workers call it together."""
        return {}

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds for :meth:`facts`; all workers call it together."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:  # noqa: B027  (most have no state)
        """Continue from a :meth:`state`; the main worker alone calls it."""


@cache
def adapter_trainer() -> type[Any]:
    """The trainer's class (TRL takes seconds to import)."""
    from trl import SFTTrainer

    class AdapterTrainer(SFTTrainer):  # type: ignore[misc,unused-ignore]
        """SFTTrainer for rows of known lengths, in an order of our own, that minimises a :class:`StepLoss`.

        Attributes:
            settings: how it trains.
            projector: whether the adapter reaches the layers between pictures and language.
            workers: the processes that train.
            step_loss: set by :func:`run_trainer`.
            learnt: ``[3]``: summed loss, what it is summed over and tokens read since it was last emptied.
            picks: whether the model computes the logits of some positions only. A family that cannot, or has a loss of
                its own besides, is left to TRL's loss.
        """

        step_loss: StepLoss

        def __init__(
            self, *args: Any, lengths: Sequence[int], settings: SFTTrainerConfig, projector: bool, **kwargs: Any
        ) -> None:
            self.lengths, self.settings, self.projector = lengths, settings, projector
            super().__init__(*args, **kwargs)
            self.workers = Workers.of(self.accelerator)
            exact = torch.float32 if self.args.device.type == "mps" else torch.float64
            self.learnt = torch.zeros(3, dtype=exact, device=self.args.device)
            forward = inspect.signature(type(self.accelerator.unwrap_model(self.model).get_base_model()).forward)
            self.picks = "logits_to_keep" in forward.parameters and not self.aux_loss_enabled
            self._step, self._forwards = -1, 0

        def _get_train_sampler(self, train_dataset: Any = None) -> LengthBuckets:
            args = self.args
            size = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
            return LengthBuckets(self.lengths, size, args.seed, lambda: int(self.state.epoch or 0))

        def compute_loss(
            self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            assert not return_outputs, "validation asks the recommender, not the trainer"
            found = self.step_loss(self, model, inputs)
            if found is None:
                return self._trls_own(model, inputs, num_items_in_batch)
            self._count(found.total.detach(), found.count, found.read)
            # The mean over a step's tokens: Trainer counts them over all batches of the step and all devices.
            loss = found.total / (found.count if num_items_in_batch is None else num_items_in_batch)
            return loss * self._scale(num_items_in_batch)

        def _trls_own(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any) -> Any:
            read, tokens = inputs["attention_mask"].sum(), (inputs["labels"][:, 1:] != IGNORED).sum()
            loss = super().compute_loss(model, inputs, False, num_items_in_batch)
            share = 1.0 if num_items_in_batch is None else num_items_in_batch / tokens
            self._count(loss.detach() * tokens * share / self._scale(num_items_in_batch), tokens, read)
            return loss

        def forward_number(self) -> int:
            """A new number for this forward, which a resumed run finds again."""
            step = self.state.global_step
            self._forwards = self._forwards + 1 if self._step == step else 0
            self._step = step
            return int(step * self.args.gradient_accumulation_steps + self._forwards)

        def _scale(self, num_items_in_batch: Any) -> int:
            """By how much the loss is scaled up because gradients are averaged over devices."""
            counted = self.args.average_tokens_across_devices and num_items_in_batch is not None
            return int(self.accelerator.num_processes) if counted else 1

        def _count(self, loss: Tensor, learnt: Tensor | int, read: Tensor) -> None:
            if self.model.training:
                for place, one in enumerate((loss, learnt, read)):
                    self.learnt[place] += one

        def create_model_card(self, *args: Any, **kwargs: Any) -> None:
            """Checkpoints need none; ``run.json`` describes the run."""

    return AdapterTrainer


def build_trainer(
    model: ChatModel,
    lora: LoraConfig,
    lengths: Sequence[int],
    config: SFTTrainerConfig,
    collate: Callable[[Sequence[Mapping[str, int]]], dict[str, Tensor]],
    *,
    batch_size: int,
    out: Path,
    device: str,
    seed: int,
    workers: int = 0,
) -> Any:
    """TRL's trainer with a fresh adapter put on: from here on ``model`` has it too.

    Args:
        lengths: about how long each row of training is.
        collate: from numbers of rows to a batch.
        batch_size: rows at a time.
        workers: processes that prepare batches ahead.
    """
    from datasets import Dataset as Rows
    from transformers import PrinterCallback
    from trl import SFTConfig as TRLConfig

    adapter = peft_config(model, lora)
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
            ddp_find_unused_parameters=lora.projector,
            dataloader_pin_memory=device.startswith("cuda"),
            save_strategy="no",  # TrainingCallback decides when
            save_total_limit=2,
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
    if args.device.type == "cuda":
        args._n_gpu = 1  # several visible GPUs are used through torchrun, one per process
    try:
        with hushed():
            trainer = adapter_trainer()(
                model=model.core,
                args=args,
                train_dataset=Rows.from_dict({"row": list(range(len(lengths)))}),
                processing_class=model.tokenizer,
                peft_config=adapter,
                data_collator=collate,
                lengths=lengths,
                settings=config,
                projector=lora.projector,
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
    """The run's folder, made or opened again by the main worker, and locked while it is trained; it may be finished.

    Args:
        identity: model, seed and options: what a resumed run must have been started with.
        facts: for ``run.json``.
    """
    workers: Workers = trainer.workers
    with one_writer(out, workers.main):
        if workers.main:
            open_run(
                out, identity, dataset, dataset_path, resume, {**facts, **worker_facts(out, workers.count, resume)}
            )
        workers.wait()
        yield Run.open(out)
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
    validator = Validator(recommender, validation, forget_pictures=trainer.projector, workers=workers)
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
    if (out / "run.json").exists() and not resume:
        raise PalateError(f"{out} holds a run already", "Choose another --out, or continue it with --resume.")


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
