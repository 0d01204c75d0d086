"""Supervised fine-tuning of a multimodal LLM: stage 3 of MLLM-MSR (arXiv 2408.09698).

TRL's trainer and a PEFT adapter (LoRA), on prompts made by the code that evaluation uses. Departures from the authors'
code: the loss is on the answer alone, negatives are seeded, and what is validated is what is served.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from palate.config import Config
from palate.data.dataset import Cases, Dataset
from palate.data.positions import training_positions, validation_positions, validation_users
from palate.data.sample import sample_users
from palate.errors import PalateError, suggest
from palate.mllm.components import ModelOptions, PromptedModel, load_components
from palate.mllm.finetune.collate import Collator
from palate.mllm.finetune.config import ExamplesConfig, LoraConfig, SFTConfig
from palate.mllm.finetune.examples import Examples, PromptCases
from palate.mllm.finetune.lora import peft_config
from palate.mllm.finetune.option_loss import CaseCollator, can_pack, option_loss_trainer
from palate.mllm.finetune.token_loss import token_loss_trainer
from palate.mllm.finetune.trainer import (
    build_trainer,
    check_out,
    check_precision,
    device_of,
    random_state,
    run_trainer,
    workers_of,
)
from palate.mllm.lm.chat_model import ChatModel
from palate.mllm.prompts.prompter import PromptOptions
from palate.runs.log import Row
from palate.runs.run import Run
from palate.runs.start import open_run
from palate.storage.lock import one_writer

NAME = "mllm"
# Settings of examples that belong to the other task.
_OF_OTHER_TASK = {"yes-no": ("choices",), "choose": ("negatives_per_positive", "validate_negatives")}


@dataclass(frozen=True)
class SFTPlan:
    """All settings, checked. ``scoring`` is what else an :class:`~palate.mllm.recommender.MLLMConfig` takes."""

    model: ModelOptions
    prompt: PromptOptions
    examples: ExamplesConfig
    lora: LoraConfig
    trainer: SFTConfig
    scoring: dict[str, Any]

    @classmethod
    def of(cls, settings: Mapping[str, Mapping[str, Any]]) -> SFTPlan:
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
class TrainingData:
    """What is learnt, and the questions of validation."""

    examples: Examples
    sizes: list[int]
    validation: PromptCases

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
    plan = SFTPlan.of(settings)
    check_out(Path(out), resume)
    check_precision(plan.model.dtype)
    place = device_of(device)
    opened = load_components(
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
    check_precision(str(opened.model.core.dtype).removeprefix("torch."))  # what "auto" has become
    lessons = make_lessons(dataset, opened, plan.examples, seed)
    check_longest(opened.model, lessons.examples)
    adapter = peft_config(opened.model, plan.lora)
    identity = {
        "model": NAME,
        "seed": seed,
        "options": {"mllm": opened.config.model_dump(mode="json"), **plan.options},
        "features": {},
        "warm_start": None,
    }
    facts: dict[str, Any] = {"made_from": opened.facts, "learnt": _counts(lessons)}
    with ExitStack() as held, random_state():
        kind, own = _by_loss(opened.model, lessons.examples, plan)
        lengths, batch_size = lessons.rows(plan.trainer)
        trainer = build_trainer(
            kind,
            opened.model,
            adapter,
            lengths,
            plan.trainer,
            batch_size=batch_size,
            out=Path(out),
            device=place,
            seed=seed,
            projector=plan.lora.projector,
            workers=plan.trainer.workers,
            **own,
        )
        held.enter_context(one_writer(out, trainer.accelerator.is_main_process))
        if trainer.accelerator.is_main_process:
            facts |= workers_of(Path(out), trainer.accelerator.num_processes, resume)
            open_run(out, identity, dataset, dataset_path, resume, facts)
        trainer.accelerator.wait_for_everyone()
        run = Run.open(out)
        if run.finished:
            return run
        done = run_trainer(
            trainer,
            plan.trainer,
            opened.recommender(),
            lessons.validation,
            run,
            resume=resume,
            changing_eyes=plan.lora.projector,
            on_row=on_row,
        )
        if trainer.accelerator.is_main_process:
            run.add(finished=True, **done)
        trainer.accelerator.wait_for_everyone()
    return Run.open(out)


def make_lessons(dataset: Dataset, opened: PromptedModel, config: ExamplesConfig, seed: int) -> TrainingData:
    """Draw the questions of training and validation, and look up the preferences that go with them.

    Raises:
        PalateError: nothing to learn or to validate with; preferences that have not been written.
    """
    task = opened.config.prompt.task
    everybody = config.users is None or config.users >= dataset.num_users
    users = None if everybody else sample_users(dataset, int(config.users or 0), config.users_seed)
    asked = min(config.validate_users, config.users or dataset.num_users)
    # Summaries have been written for users of the sample.
    some_users = validation_users(
        dataset, asked, config.users_seed, within=users if opened.preferences is not None else None
    )
    cases = training_positions(dataset, users, config.cutoffs)
    valid = validation_positions(dataset, some_users)
    for name, some in (("training position with a history", cases), ("validation case", valid)):
        if not len(some):
            raise PalateError(f"no user of the sample has a {name}", "Take more users, or prepare with more data.")
    others = config.choices - 1 if task == "choose" else config.negatives_per_positive
    questions = PromptCases.draw(dataset, cases, source=config.negatives, negatives=others, seed=seed)
    others = config.choices - 1 if task == "choose" else config.validate_negatives
    # Validation asks every seed the same.
    validation = PromptCases.draw(dataset, valid, source=config.negatives, negatives=others, seed=config.users_seed)
    written = _written(opened, cases)
    _written(opened, valid)
    examples = Examples(questions, opened.prompter, written)
    return TrainingData(examples, examples.sizes(), validation)


def _written(opened: PromptedModel, cases: Cases) -> list[str | None]:
    if opened.preferences is None:
        return [None] * len(cases)
    return list(opened.preferences.of(cases.histories.to_lists()))


def check_longest(model: ChatModel, examples: Examples) -> None:
    """Refuse prompts that are longer than what the model reads; the longest few are encoded to find out."""
    longest = np.argsort(examples.sizes())[-4:]
    model.check_length(max(len(model.encode(*examples[int(row)])) for row in longest))


def _counts(lessons: TrainingData) -> dict[str, Any]:
    cases = lessons.examples.questions.cases
    return {
        "users": len(np.unique(cases.users)),
        "positions": len(cases),
        "examples": len(lessons.examples),
        "validation_cases": len(lessons.validation),
    }


def _by_loss(model: ChatModel, examples: Examples, plan: SFTPlan) -> tuple[type[Any], dict[str, Any]]:
    """The trainer's class, and what only it takes."""
    if plan.trainer.loss == "tokens":
        return token_loss_trainer(), {"data_collator": Collator(model, examples)}
    chats, _ = examples.case(0)
    return option_loss_trainer(), {
        "data_collator": CaseCollator(model, examples, can_pack(model, examples)),
        "chat_model": model,
        "tokens": model.first_tokens(chats[0], examples.answers),
        "remember": not plan.lora.projector,
    }
