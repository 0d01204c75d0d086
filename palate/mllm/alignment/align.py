"""Align a multimodal LLM on preferences: the Python call behind ``palate mllm align``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from palate.data.dataset import Dataset
from palate.features.store import FeatureStore
from palate.mllm.alignment.noise import AdapterNoise
from palate.mllm.alignment.plan import AlignmentSetup, plan_alignment
from palate.mllm.alignment.reference import Reference, references_folder
from palate.mllm.alignment.report import report_alignment
from palate.mllm.alignment.rounds import Rounds
from palate.mllm.alignment.trainer import AlignStep, RowCollator, align_trainer
from palate.mllm.finetune.lora import peft_config
from palate.mllm.finetune.option_loss import can_pack
from palate.mllm.finetune.trainer import build_trainer, check_out, device_of, random_state, run_trainer, workers_of
from palate.runs.log import Row
from palate.runs.run import Run
from palate.runs.start import open_run
from palate.runs.workers import gather_over
from palate.storage.lock import one_writer


def align_mllm(
    run: Run | Path | str,
    *,
    out: Path | str,
    objective: str = "dpo",
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int | None = None,
    device: str = "auto",
    retriever: Run | Path | str | None = None,
    dataset: Dataset | None = None,
    dataset_path: Path | str | None = None,
    features: Mapping[str, FeatureStore] | None = None,
    resume: bool = False,
    on_row: Callable[[Row], None] | None = None,
) -> Run:
    """Align a run of ``palate mllm`` on preferences and return the new run.

    HaNoRec (arXiv 2511.18740): its adapter becomes part of the weights, a fresh one is trained on top, and the
    reference is the model with the fresh one switched off. Any objective of :data:`palate.objectives.PREFERENCES` will
    do.

    Args:
        run: a finished run: fine-tuned, aligned already, or zero-shot (the model as it comes is then the reference).
        out: folder of the new run.
        objective: name of the objective.
        settings: by section: ``preference`` (the objective's own), ``pairs``, ``lora``, ``trainer``.
        seed: of draws, order and the adapter's first weights; by default the run's own.
        device: ``auto``, ``cpu``, ``cuda`` ...
        retriever: a run that ranks the whole catalogue, for negatives from a pool.
        dataset: what the run was made from; by default it is opened where the run met it.
        dataset_path: its folder.
        features: feature stores by modality that hardness is made from; by default the dataset's ``text`` and
            ``image``.
        resume: go on from the last checkpoint; a finished run is returned as it is.
        on_row: called with each row of ``metrics.jsonl``.

    Raises:
        PalateError: what does not fit, before any work.
    """
    check_out(Path(out), resume)
    place = device_of(device)
    asked = plan_alignment(
        run,
        objective=objective,
        settings=settings or {},
        seed=seed,
        device=place,
        retriever=retriever,
        dataset=dataset,
        dataset_path=dataset_path,
        features=features,
    )
    asked.check_batch(int(os.environ.get("WORLD_SIZE", "1")))
    with ExitStack() as held, random_state():
        trainer, step, rounds = _prepare(asked, Path(out), place)
        accelerator = trainer.accelerator
        rounds.check()
        held.enter_context(one_writer(out, accelerator.is_main_process))
        if accelerator.is_main_process:
            facts = {**asked.facts, **workers_of(Path(out), accelerator.num_processes, resume)}
            open_run(out, asked.identity, asked.dataset, asked.path, resume, facts)
        accelerator.wait_for_everyone()
        aligned = Run.open(out)
        if aligned.finished:
            return aligned
        rounds.begin(aligned.folder, resume)
        if asked.needs_hardness:
            step.hardness = asked.fit_hardness(rounds.at(0).examples)
        done = run_trainer(
            trainer,
            asked.trainer,
            asked.recommender,
            asked.validation,
            aligned,
            resume=resume,
            changing_eyes=asked.lora.projector,
            on_row=on_row,
        )
        if accelerator.is_main_process:
            hardness = {} if step.hardness is None else {"hardness": step.hardness.quantiles()}
            told = {"alignment": report_alignment(aligned), "reference_prompts": rounds.reference.asked, **hardness}
            aligned.add(finished=True, **done, **told)
        accelerator.wait_for_everyone()
    return Run.open(out)


def _prepare(asked: AlignmentSetup, out: Path, device: str) -> tuple[Any, AlignStep, Rounds]:
    """The trainer, with the fresh adapter on, what it makes of a forward, and the pairs it meets."""
    model, examples = asked.recommender.model, asked.lessons
    packed = can_pack(model, examples)
    first = model.first_tokens(examples.case(0)[0][0], examples.answers)
    trainer = build_trainer(
        align_trainer(),
        model,
        peft_config(model, asked.lora),
        asked.lengths(examples),
        asked.trainer,
        batch_size=asked.trainer.batch_size,
        out=out,
        device=device,
        seed=asked.seed,
        projector=asked.lora.projector,
        data_collator=RowCollator(examples.each if asked.kind == "answer" else 1),
        chat_model=model,
        tokens=first,
        remember=not asked.lora.projector,
    )
    accelerator = trainer.accelerator
    gather, worker = gather_over(accelerator), accelerator.process_index
    reference = Reference(
        model,
        asked.reference_identity,
        packed=packed,
        gather=gather,
        worker=worker,
        workers=accelerator.num_processes,
        keep=references_folder(),
    )
    rounds = Rounds(asked, reference, main=accelerator.is_main_process, wait=accelerator.wait_for_everyone)
    config: Any = asked.preference.config
    noisy = getattr(config, "noise", "none") == "lora" and config.sigma > 0
    trainer.step = AlignStep(
        kind=asked.kind,
        preference=asked.preference,
        hardness=None,  # fitted to the first round, which is drawn when the run's folder is there
        round_of=rounds,
        packed=packed,
        noise=AdapterNoise(model.model, config.sigma, asked.seed, worker) if noisy else None,
        seed=asked.seed,
        watch_every=asked.trainer.watch_every,
        gather=gather,
        worker=worker,
    )
    return trainer, trainer.step, rounds
