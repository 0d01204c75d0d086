"""Supervised fine-tuning of a multimodal LLM: stage 3 of MLLM-MSR (arXiv 2408.09698).

TRL's trainer and a PEFT adapter (LoRA), on prompts made by the code that evaluation uses. Departures from the authors'
code: the loss is on the answer alone, negatives are seeded, and validation runs the recommender that is served.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from palate.config import Config
from palate.data.dataset import Dataset
from palate.data.positions import training_positions
from palate.errors import PalateError, suggest
from palate.mllm.components import load_components
from palate.mllm.finetune.collate import Collator
from palate.mllm.finetune.config import ExamplesConfig, LoraConfig, SFTConfig
from palate.mllm.finetune.examples import Examples, PromptCases, sampled_users, validation_cases
from palate.mllm.finetune.option_loss import AnswerLogits, CaseCollator, OptionLoss, can_pack
from palate.mllm.finetune.run import (
    check_out,
    check_precision,
    random_state,
    run_trainer,
    training_device,
    training_run,
)
from palate.mllm.finetune.sharding import check_sharding, loading_device
from palate.mllm.finetune.token_loss import TokenLoss
from palate.mllm.finetune.trainer import StepLoss, build_trainer
from palate.mllm.lm.chat_model import ChatModel
from palate.mllm.lm.options import ModelOptions
from palate.mllm.prompts.prompter import PromptOptions
from palate.mllm.recommender import MLLMRecommender
from palate.mllm.scoring.scorer import Scorer
from palate.runs.log import Row
from palate.runs.run import Run
from palate.seeds import checked_seed
from palate.storage.remote import takes_urls

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
                option = f"--{key.replace('_', '-')}"
                raise PalateError(f"{option} has no meaning with --task {plan.prompt.task}", f"Leave {option} out.")
        return plan

    @property
    def options(self) -> dict[str, Any]:
        """As plain values."""
        sections = {"examples": self.examples, "lora": self.lora, "trainer": self.trainer}
        return {name: config.model_dump(mode="json") for name, config in sections.items()}


@takes_urls("out")
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
        dataset_path: the dataset's folder, recorded in the run, and where summaries are stored; by default the one
            that it was read from.
        prompts: folder of a user's own templates.
        summaries: name of a store of user summaries.
        item_summaries: name of a store of item summaries.
        resume: continue from the last checkpoint of an interrupted run; a finished one is returned as it is.
        on_row: called with each row of ``metrics.jsonl``.

    Raises:
        PalateError: settings, summaries, a model or a run folder that do not fit: before any work.
    """
    plan, out, seed = SFTPlan.of(settings), Path(out), checked_seed(seed)
    check_out(out, resume)
    check_precision(plan.model.dtype)
    place = training_device(device)
    check_sharding(plan.trainer, plan.lora, plan.model.quantisation)
    parts = load_components(
        dataset,
        plan.model,
        plan.prompt,
        device=loading_device(plan.trainer, place),
        runs_on=place,
        prompts=prompts,
        dataset_path=dataset_path,
        summaries=summaries,
        item_summaries=item_summaries,
        settings=plan.scoring,
    )
    model, recommender = parts.model, parts.recommender()
    check_precision(str(model.core.dtype).removeprefix("torch."))  # what "auto" has become
    examples = training_examples(dataset, recommender, plan.examples, seed)
    validation = validation_cases(dataset, recommender, plan.examples)
    examples.check_longest(model)
    options = {"mllm": parts.config.model_dump(mode="json"), **plan.options}
    identity = {"model": MLLMRecommender.name, "seed": seed, "options": options, "features": {}, "warm_start": None}
    cases = examples.questions.cases
    learnt = {
        "users": len(np.unique(cases.users)),
        "positions": len(cases),
        "examples": len(examples),
        "validation_cases": len(validation),
    }
    with random_state():
        loss, collate, lengths, batch_size = _by_loss(model, examples, plan)
        trainer = build_trainer(
            model,
            plan.lora,
            lengths,
            plan.trainer,
            collate,
            batch_size=batch_size,
            out=out,
            device=place,
            seed=seed,
            workers=plan.trainer.workers,
        )
        facts = {"made_from": parts.facts, "learnt": learnt}
        with training_run(trainer, out, identity, facts, dataset, dataset_path, resume) as run:
            if not run.finished:
                done = run_trainer(trainer, loss, recommender, validation, run, resume=resume, on_row=on_row)
                if trainer.workers.main:
                    run.add(finished=True, **done)
    return Run.open(out)


def training_examples(dataset: Dataset, recommender: MLLMRecommender, config: ExamplesConfig, seed: int) -> Examples:
    """Prompts about training positions and items drawn by the seed, with the summaries that they show.

    Raises:
        PalateError: nothing to learn from; summaries that have not been written.
    """
    cases = training_positions(dataset, sampled_users(dataset, config.users, config.users_seed), config.cutoffs)
    if not len(cases):
        raise PalateError(
            "no user of the sample has a training position with a history",
            "Take more users, or prepare with more data.",
        )
    choose = recommender.config.prompt.task == "choose"
    others = config.choices - 1 if choose else config.negatives_per_positive
    drawn = PromptCases.draw(dataset, cases, source=config.negatives, negatives=others, seed=seed)
    return Examples(drawn, recommender.prompter, recommender.written(cases.histories))


def _by_loss(model: ChatModel, examples: Examples, plan: SFTPlan) -> tuple[StepLoss, Any, list[int], int]:
    """The loss, its collator, about how long each row of training is, and rows at a time.

    A row is an example, or with the loss ``options`` a case with all its examples.
    """
    if plan.trainer.loss == "tokens":
        if plan.trainer.fsdp:  # how the head is read is found out while the weights are whole
            Scorer(model, reuse=False).logits([examples[0][0]], examples.answers)
        return TokenLoss(), Collator(model, examples), examples.sizes, plan.trainer.batch_size
    return (
        OptionLoss(AnswerLogits(model, examples, remember=not (plan.lora.projector or plan.trainer.fsdp))),
        CaseCollator(model, examples, can_pack(model, examples)),
        examples.case_sizes(),
        max(1, plan.trainer.batch_size // examples.each),
    )
