"""Align a trained ranker on preferences: the Python call behind ``palate align``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from palate.alignment.plan import plan_alignment
from palate.alignment.report import report_alignment
from palate.alignment.step import AlignStep
from palate.data.dataset import Dataset
from palate.features.store import FeatureStore
from palate.rankers.registry import load_recommender
from palate.runs.launch import start_workers
from palate.runs.log import Row
from palate.runs.manual_stop import forget_request
from palate.runs.run import Run
from palate.runs.start import run_to_train
from palate.runs.trained_on import record_logs
from palate.runs.workers import Workers
from palate.storage.files import digest
from palate.storage.remote import takes_urls
from palate.training.early_ending import kept_row
from palate.training.fit import summary
from palate.training.loop import Trainer
from palate.training.plan import Settings


@takes_urls("out")
def align(
    run: Run | Path | str,
    *,
    out: Path | str,
    objective: str = "dpo",
    negatives: str = "top-k",
    seed: int | None = None,
    settings: Settings | None = None,
    reference: Run | Path | str | None = None,
    dataset: Dataset | None = None,
    dataset_path: Path | str | None = None,
    features: Mapping[str, FeatureStore] | None = None,
    resume: bool = False,
    on_epoch: Callable[[Row], None] | None = None,
) -> Run:
    """Train a run's ranker on with ``cross_entropy * CE + weight * preference`` and return the new run.

    RoDPO (arXiv 2603.29259): the negative of a pair is drawn from the policy's own K best-scored items that the user
    has not taken so far; the reference is the run itself, frozen, in eval mode. Both are choices here.

    Args:
        run: a finished run of a neural ranker.
        out: folder of the new run.
        objective: a name of :data:`palate.objectives.PREFERENCES`, or ``none``: cross-entropy goes on alone.
        negatives: see :class:`palate.negatives.config.NegativesConfig`.
        seed: of the draws; by default the run's own.
        settings: by section: ``preference``, ``negatives``, ``align``, ``trainer``.
        reference: another run in place of ``run``, of the same model and catalogue.
        dataset: what the run was trained on; by default it is opened where the run met it.
        dataset_path: recorded in the new run.
        features: feature stores by modality; by default those of the dataset that the run was trained with.
        resume: continue an interrupted alignment; a finished one is returned as it is.
        on_epoch: called with each row of ``metrics.jsonl``.

    Raises:
        PalateError: the run is no trained ranker, another dataset, a pool that is too large, unknown names or options,
            a folder that another process is at work in.
    """
    alignment = plan_alignment(
        run,
        objective=objective,
        negatives=negatives,
        seed=seed,
        settings=settings,
        reference=reference,
        dataset=dataset,
        dataset_path=dataset_path,
        features=features,
    )
    config = alignment.plan.trainer
    assert config is not None
    accelerator = start_workers(config.device, config.precision)
    workers = Workers.of(accelerator)
    if accelerator.is_main_process:
        alignment.settings.note_unread()
    identity: dict[str, Any] = {
        "model": alignment.start.info["model"],
        "seed": alignment.seed,
        "options": {**alignment.plan.options, "alignment": alignment.options},
        "features": {name: store.describe() for name, store in alignment.stores.items()},
        "warm_start": None,
    }
    origin = alignment.origin
    key = {**identity, "from": origin, "data": alignment.dataset.fingerprint}  # of checkpoints
    with torch.random.fork_rng():
        torch.manual_seed(alignment.seed)
        prepared = alignment.prepare(workers)

        def make_step() -> AlignStep:
            return alignment.make_step(prepared, workers.device, workers.gather)

        # A folder that is there already may be refused or finished; a new one is made when nothing can be refused.
        step = None if (Path(out) / "run.json").exists() else make_step()
        workers.wait()
        facts: dict[str, Any] = {"aligned_from": origin}
        with run_to_train(out, identity, alignment.dataset, resume=resume, facts=facts, workers=workers) as aligned:
            if aligned.finished:
                return aligned
            step = step or make_step()
            trainer = Trainer(
                model=prepared.model,
                step=step,
                data=prepared.data,
                counts=alignment.dataset.train_counts,
                validate=prepared.validation,
                config=config,
                accelerator=accelerator,
                folder=aligned.folder,
                config_hash=digest(json.dumps(key, sort_keys=True)),
                on_epoch=on_epoch,
                start=True,
            )
            rows = trainer.run()
            if not workers.main:
                return aligned
            facts = {**summary(rows, config, prepared.model), **trainer.ending}
            if prepared.model.neighbours is not None:  # they are those of the run that was aligned
                recorded = alignment.start.info.get("neighbours", {})
                facts["neighbours"] = {name: recorded[name] for name in ("lists", "stores") if name in recorded}
            if step.hardness is not None:
                facts["hardness"] = step.hardness.quantiles()
            if alignment.preference is not None:
                facts["alignment"] = report_alignment(
                    aligned.folder,
                    rows,
                    kept_row(rows, config),
                    step.pairs,
                    alignment.dataset,
                    load_recommender(aligned),
                    prepared,
                )
                if step.pairs.twins is not None:
                    facts["alignment"]["twins"] = step.pairs.twins.facts
                if step.pairs.shown is not None:
                    facts["alignment"]["shown"] = step.pairs.shown.coverage(step.pairs.prefixes.sequences)
            facts["trained_on"] = record_logs(alignment.dataset, aligned, [alignment.start])
            made = aligned.add(finished=True, **facts)
            forget_request(made.folder)
            return made
