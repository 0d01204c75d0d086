"""Supervised fine-tuning of a multimodal LLM: stage 3 of MLLM-MSR (arXiv 2408.09698).

TRL's trainer and a PEFT adapter (LoRA), on prompts made by the code that evaluation uses. Departures from the authors'
code: the loss is on the answer alone, negatives are seeded, and what is validated is what is served.
"""

from __future__ import annotations

import math
import os
import random
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from palate.config import Config
from palate.data.dataset import Cases, Dataset
from palate.data.sample import sample_users
from palate.device import parse_device
from palate.errors import PalateError, suggest
from palate.features.hub import quiet
from palate.mllm.answer_trainer import answer_trainer
from palate.mllm.batches import Collator
from palate.mllm.examples import Examples, Questions, judges, training_positions, validation_positions
from palate.mllm.judge import METRICS, Judge
from palate.mllm.lora import peft_config
from palate.mllm.model import ChatModel
from palate.mllm.opened import ModelOptions, Opened, open_parts
from palate.mllm.option_trainer import CaseCollator, can_pack, option_trainer
from palate.mllm.prompter import PromptOptions
from palate.mllm.sft_config import ExamplesConfig, LoraConfig, SFTConfig
from palate.mllm.watch import Watch, callback, last_checkpoint, remove_torn
from palate.runs import Run
from palate.training.fit import open_run
from palate.training.logs import Row
from palate.training.workers import gather_over

NAME = "mllm"
_SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}
# Settings of examples that belong to the other task.
_OF_OTHER_TASK = {"yes-no": ("choices",), "choose": ("negatives_per_positive", "validate_negatives")}


@dataclass(frozen=True)
class Plan:
    """All settings, checked. ``scoring`` is what else an :class:`~palate.mllm.recommender.MLLMConfig` takes."""

    model: ModelOptions
    prompt: PromptOptions
    examples: ExamplesConfig
    lora: LoraConfig
    trainer: SFTConfig
    scoring: dict[str, Any]

    @classmethod
    def of(cls, settings: Mapping[str, Mapping[str, Any]]) -> Plan:
        """From settings by section.

        Raises:
            PalateError: an unknown section or setting, or a value out of bounds.
        """
        kinds: dict[str, type[Config]] = {
            "model": ModelOptions,
            "prompt": PromptOptions,
            "examples": ExamplesConfig,
            "lora": LoraConfig,
            "trainer": SFTConfig,
        }
        known = (*kinds, "scoring")
        for section in settings:
            if section not in known:
                raise PalateError(f"unknown section '{section}' in the settings", suggest(section, known))
        parsed: dict[str, Any] = {
            name: kind.parse(settings.get(name, {}), where=f"settings [{name}]") for name, kind in kinds.items()
        }
        plan = cls(**parsed, scoring=dict(settings.get("scoring", {})))
        for key in _OF_OTHER_TASK[plan.prompt.task]:
            if key in settings.get("examples", {}):
                told = f"--{key.replace('_', '-')}"
                raise PalateError(f"{told} has no meaning with --task {plan.prompt.task}", f"Leave {told} out.")
        return plan

    @property
    def options(self) -> dict[str, Any]:
        """As plain values."""
        sections = {"examples": self.examples, "lora": self.lora, "trainer": self.trainer}
        return {name: config.model_dump(mode="json") for name, config in sections.items()}


@dataclass(frozen=True)
class Lessons:
    """What is learnt, and the questions of validation."""

    examples: Examples
    sizes: list[int]
    validation: Questions

    def rows(self, config: SFTConfig) -> tuple[list[int], int]:
        """About how long each row of training is, and how many go through the model at a time.

        A row is an example, or with the loss ``options`` a case with all its examples.
        """
        if config.loss == "tokens":
            return self.sizes, config.batch_size
        each = self.examples.each
        cases = [sum(self.sizes[start : start + each]) for start in range(0, len(self.sizes), each)]
        return cases, max(1, config.batch_size // each)


def fine_tune(
    dataset: Dataset,
    *,
    out: Path | str,
    settings: Mapping[str, Mapping[str, Any]],
    seed: int = 0,
    device: str = "auto",
    dataset_path: Path | str | None = None,
    prompts: Path | None = None,
    summaries: str | None = None,
    item_summaries: str | None = None,
    resume: bool = False,
    on_row: Callable[[Row], None] | None = None,
) -> Run:
    """Fine-tune a language model to say which items a user takes next, and return its run.

    Args:
        out: the run folder; it must not hold a run yet, unless ``resume``.
        settings: by section: ``model`` (``name`` is required), ``prompt``, ``examples``, ``lora``, ``trainer``,
            ``scoring``.
        seed: of negatives, orders and the adapter's first weights.
        device: ``auto``, ``cpu``, ``cuda`` ...; ``torchrun`` gives each worker its own.
        dataset_path: the dataset's folder: recorded in the run, and where summaries lie.
        prompts: folder of a user's own templates.
        summaries: name of a store of user summaries.
        item_summaries: name of a store of item summaries.
        resume: go on from the last checkpoint of an interrupted run; a finished one is returned as it is.
        on_row: called with each row of ``metrics.jsonl``.

    Raises:
        PalateError: settings, summaries, a model or a run folder that do not fit: before any work.
    """
    plan = Plan.of(settings)
    _check_out(Path(out), resume)
    _check_precision(plan.model.dtype)
    place = _device(device)
    opened = open_parts(
        dataset,
        plan.model,
        plan.prompt,
        device=place,
        prompts=prompts,
        dataset_path=dataset_path,
        summaries=summaries,
        item_summaries=item_summaries,
        settings=plan.scoring,
    )
    _check_precision(str(opened.model.core.dtype).removeprefix("torch."))  # what "auto" has become
    lessons = make_lessons(dataset, opened, plan.examples, seed)
    check_lengths(opened.model, lessons)
    adapter = peft_config(opened.model, plan.lora)
    identity = {
        "model": NAME,
        "seed": seed,
        "options": {"mllm": opened.config.model_dump(mode="json"), **plan.options},
        "features": {},
        "warm_start": None,
    }
    facts: dict[str, Any] = {"made_from": opened.facts, "learnt": _counts(lessons)}
    with _random_state():
        trainer = _trainer(opened.model, adapter, lessons, plan, Path(out), place, seed)
        if trainer.accelerator.is_main_process:
            facts |= _workers(Path(out), trainer.accelerator.num_processes, resume)
            open_run(out, identity, dataset, dataset_path, resume, facts)
        trainer.accelerator.wait_for_everyone()
        run = Run.open(out)
        if run.finished:
            return run
        done = _train(trainer, opened, lessons, plan, run, resume, on_row)
        if trainer.accelerator.is_main_process:
            run.add(finished=True, **done)
        trainer.accelerator.wait_for_everyone()
    return Run.open(out)


def make_lessons(dataset: Dataset, opened: Opened, config: ExamplesConfig, seed: int) -> Lessons:
    """Draw the questions of training and validation, and look up the preferences that go with them.

    Raises:
        PalateError: nothing to learn or to validate with; preferences that have not been written.
    """
    task = opened.config.prompt.task
    everybody = config.users is None or config.users >= dataset.num_users
    users = None if everybody else sample_users(dataset, int(config.users or 0), config.users_seed)
    asked = min(config.validate_users, config.users or dataset.num_users)
    # Summaries have been written for users of the sample.
    some_users = judges(dataset, asked, config.users_seed, within=users if opened.preferences is not None else None)
    cases = training_positions(dataset, users, config.cutoffs)
    valid = validation_positions(dataset, some_users)
    for name, some in (("training position with a history", cases), ("validation case", valid)):
        if not len(some):
            raise PalateError(f"no user of the sample has a {name}", "Take more users, or prepare with more data.")
    others = config.choices - 1 if task == "choose" else config.negatives_per_positive
    questions = Questions.draw(dataset, cases, source=config.negatives, negatives=others, seed=seed)
    others = config.choices - 1 if task == "choose" else config.validate_negatives
    # Validation asks every seed the same.
    validation = Questions.draw(dataset, valid, source=config.negatives, negatives=others, seed=config.users_seed)
    written = _written(opened, cases)
    _written(opened, valid)
    examples = Examples(questions, opened.prompter, written)
    return Lessons(examples, examples.sizes(), validation)


def _written(opened: Opened, cases: Cases) -> list[str | None]:
    if opened.preferences is None:
        return [None] * len(cases)
    return list(opened.preferences.of(cases.histories.to_lists()))


def check_lengths(model: ChatModel, lessons: Lessons) -> None:
    """Refuse prompts that are longer than what the model reads; the longest few are encoded to find out."""
    longest = np.argsort(lessons.sizes)[-4:]
    model.check_length(max(len(model.encode(*lessons.examples[int(row)])) for row in longest))


def _counts(lessons: Lessons) -> dict[str, Any]:
    cases = lessons.examples.questions.cases
    return {
        "users": len(np.unique(cases.users)),
        "positions": len(cases),
        "examples": len(lessons.examples),
        "validation_cases": len(lessons.validation),
    }


def _trainer(model: ChatModel, adapter: Any, lessons: Lessons, plan: Plan, out: Path, device: str, seed: int) -> Any:
    """TRL's trainer with the adapter put on: from here on ``model`` has it too."""
    from datasets import Dataset as Rows
    from transformers import PrinterCallback
    from trl import SFTConfig as TRLConfig

    config, projector = plan.trainer, plan.lora.projector
    lengths, batch_size = lessons.rows(config)
    with _hushed():
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
            dataloader_num_workers=config.workers,
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
    make, own = _by_loss(model, lessons.examples, plan)
    with _hushed():
        trainer = make(
            model=model.core,
            args=args,
            train_dataset=Rows.from_dict({"row": list(range(len(lengths)))}),
            processing_class=model.tokenizer,
            peft_config=adapter,
            lengths=lengths,
            **own,
        )
    trainer.processing_class = None  # checkpoints need no copy of it
    trainer.remove_callback(PrinterCallback)
    model.model = trainer.model
    return trainer


def _by_loss(model: ChatModel, examples: Examples, plan: Plan) -> tuple[type[Any], dict[str, Any]]:
    """The trainer's class, and what only it takes."""
    if plan.trainer.loss == "tokens":
        return answer_trainer(), {"data_collator": Collator(model, examples)}
    chats, _ = examples.case(0)
    return option_trainer(), {
        "data_collator": CaseCollator(model, examples, can_pack(model, examples)),
        "chat_model": model,
        "tokens": model.first_tokens(chats[0], examples.answers),
        "remember": not plan.lora.projector,
    }


def _train(
    trainer: Any,
    opened: Opened,
    lessons: Lessons,
    plan: Plan,
    run: Run,
    resume: bool,
    on_row: Callable[[Row], None] | None,
) -> dict[str, Any]:
    config, accelerator = plan.trainer, trainer.accelerator
    judge = Judge(
        opened.recommender(),
        lessons.validation,
        changing_eyes=plan.lora.projector,
        gather=gather_over(accelerator),
        worker=accelerator.process_index,
        workers=accelerator.num_processes,
    )
    if resume and accelerator.is_main_process:
        remove_torn(run.folder / "checkpoints")
    accelerator.wait_for_everyone()  # nobody looks while folders vanish, and nobody trains while others look
    found = last_checkpoint(run.folder / "checkpoints") if resume else None
    accelerator.wait_for_everyone()
    lengths, batch_size = lessons.rows(config)
    batches = math.ceil(math.ceil(len(lengths) / batch_size) / accelerator.num_processes)
    steps = config.epochs * math.ceil(batches / config.accumulation)
    watch = Watch(trainer, judge, run, config, steps, found[1] if found else None, on_row)
    trainer.add_callback(callback(watch))
    began = time.perf_counter()
    try:
        with _hushed():
            trainer.train(resume_from_checkpoint=str(found[0]) if found else None)
    finally:
        watch.close()
    if accelerator.is_main_process:
        shutil.rmtree(run.folder / "checkpoints", ignore_errors=True)
    return {
        **summary(watch.rows, METRICS[opened.config.prompt.task], config),
        "wall_seconds": round(time.perf_counter() - began, 3),
        "unreadable_pictures": len(opened.prompter.items.refused),
        "describe": judge.recommender.describe(),
    }


def summary(rows: list[Row], metric: str, config: SFTConfig) -> dict[str, Any]:
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


def _check_precision(dtype: str) -> None:
    if dtype == "float16":
        raise PalateError(
            "gradients overflow in float16, which is for scoring only",
            "Fine-tune with --dtype bfloat16, or float32 where the device has no bfloat16.",
        )


def _check_out(out: Path, resume: bool) -> None:
    """Refuse an occupied folder before a model is loaded."""
    if (out / "run.json").exists() and not resume:
        raise PalateError(f"{out} holds a run already", "Choose another --out, or continue it with --resume.")


def _workers(out: Path, workers: int, resume: bool) -> dict[str, int]:
    """How many workers train, as ``run.json`` says it: nothing for one. They share the examples out by their number."""
    if resume and (out / "run.json").exists():
        before = int(Run.open(out).info.get("workers", 1))
        if before != workers:
            raise PalateError(
                f"{out} was started with {before} worker(s), and now there are {workers}",
                f"Resume with torchrun --nproc-per-node {before}." if before > 1 else "Resume without torchrun.",
            )
    return {"workers": workers} if workers > 1 else {}


def _device(name: str) -> str:
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
def _hushed() -> Iterator[None]:
    """Without transformers' remarks on what TRL and PEFT still call by older names."""
    with warnings.catch_warnings(action="ignore", category=FutureWarning), quiet():
        yield


@contextmanager
def _random_state() -> Iterator[None]:
    """Give the global generators back as they were: the trainer seeds all of them."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  (restored, not drawn from)
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
