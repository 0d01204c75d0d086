"""Train a ranker by name: the Python call behind ``palate train``."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from palate.console import print_note
from palate.data.dataset import Dataset
from palate.data.streamed import StreamedDataset
from palate.errors import PalateError
from palate.features.folders import open_features
from palate.features.store import FeatureStore
from palate.progress import working
from palate.rankers.fitted import FittedRanker
from palate.rankers.registry import save_recommender
from palate.rankers.trained import TrainedRanker
from palate.runs.launch import is_first_worker, start_workers
from palate.runs.log import Row
from palate.runs.manual_stop import forget_request
from palate.runs.run import Run
from palate.runs.start import run_to_train
from palate.runs.trained_on import record_logs
from palate.runs.workers import Workers
from palate.seeds import checked_seed
from palate.storage.files import digest
from palate.storage.remote import recorded, takes_urls
from palate.training.config import NeighboursConfig, TrainerConfig
from palate.training.content import AUTO, Names, choose_content, encoded_content
from palate.training.early_ending import kept_row
from palate.training.loop import Trainer
from palate.training.neighbour_run import add_neighbours, renew_neighbours
from palate.training.plan import Plan, Prepared, Settings, add_fields, checked_sections, make_plan, prepare_model
from palate.training.refit_plan import Refit, everything_trains


@takes_urls("out")
def train(
    dataset: Dataset | Path | str,
    *,
    model: str,
    out: Path | str,
    seed: int = 0,
    modalities: Names = AUTO,
    missing: str = "learned",
    objective: str = "cross-entropy",
    neighbours: Names = AUTO,
    settings: Settings | None = None,
    features: Mapping[str, FeatureStore] | None = None,
    stores: list[str] | None = None,
    dataset_path: Path | str | None = None,
    warm_start: Path | str | None = None,
    resume: bool = False,
    refit: Refit | None = None,
    on_epoch: Callable[[Row], None] | None = None,
) -> Run:
    """Train ``model`` on the dataset's training split and return its run.

    Args:
        dataset: it, or its folder.
        model: a name of :data:`palate.rankers.registry.RANKERS`.
        out: the run folder; it must not hold a run yet, unless ``resume``.
        modalities: what makes an item's vector: ``id``, ``fields`` and names of ``features`` (neural rankers). By
            default ids with the texts and pictures that are encoded, see
            :func:`palate.training.content.choose_content`.
        missing: what replaces an absent feature: ``learned``, ``mean`` or ``zeros``.
        objective: a name of :data:`palate.objectives.OBJECTIVES` (neural rankers).
        neighbours: sources by which the nearest of the newest items add to the scores: ``co-occurrence`` and names of
            feature stores (neural rankers); see :mod:`palate.rankers.neighbours`. By default all that is encoded in
            the dataset's folder; none where nothing is, or where ``features`` are given.
        settings: further options by section: ``ranker``, ``objective``, ``trainer``, ``neighbours``.
        features: feature stores by modality; by default those of the dataset's folder. ``fields`` are made of the
            catalogue.
        stores: ``MODALITY=NAME``: other stores of the folder than ``features/MODALITY``; not with ``features``.
        dataset_path: recorded in the run, so that later commands find the dataset; by default the folder that it was
            read from.
        warm_start: a run to take the weights from, item by item id: training goes on with new logs.
        resume: continue an interrupted run; a finished one is returned as it is.
        refit: train on all interactions, for as long as another run's validation chose; see
            :func:`palate.training.refit.refit`.
        on_epoch: called with each row of ``metrics.jsonl``.

    Raises:
        PalateError: unknown names or options, absent features, an existing run, or one that another
            process is at work in: before any work.
    """
    dataset, seed = Dataset.opened(dataset), checked_seed(seed)
    folder = dataset.folder if dataset_path is None else Path(dataset_path)
    settings = checked_sections(settings or {})
    encoded = encoded_content(folder)
    if features is not None:
        if stores:
            raise PalateError("stores= are of the dataset's folder, and features= are given", "Leave one of them out.")
        encoded, neighbours = tuple(features), () if neighbours == AUTO else neighbours
    before = out if resume and (Path(out) / "run.json").is_file() else warm_start
    chosen = choose_content(model, len(dataset.catalogue), encoded, modalities, neighbours, settings, before)
    if AUTO in (modalities, neighbours) and len(chosen.modalities + chosen.neighbours) > 1 and is_first_worker():
        print_note(f"Content: {chosen}")
    plan = make_plan(model, chosen.modalities, missing, objective, chosen.settings, chosen.neighbours)
    if plan.trainer is None and warm_start is not None:
        raise PalateError(f"{model} has no weights to start from", "Leave out --warm-start.")
    if features is None and folder is not None:
        features = open_features(folder, dataset.catalogue, chosen.modalities, stores or [])
    opened = {name: store for name, store in (features or {}).items() if name in chosen.modalities}
    if plan.trainer is not None and plan.trainer.stream:
        dataset = _streamed(plan, dataset, dataset_path)
    if dataset.folder is None and dataset_path is not None:  # counted rankers look there for features
        dataset = replace(dataset, folder=Path(dataset_path))
    opened = add_fields(plan.ranker, dataset, opened, warm_start)
    log = dataset if refit is None else everything_trains(dataset)
    content = plan.kind.features_read(dataset, plan.ranker) if issubclass(plan.kind, FittedRanker) else {}
    accelerator = (
        start_workers("cpu") if plan.trainer is None else start_workers(plan.trainer.device, plan.trainer.precision)
    )
    if accelerator.is_main_process and refit is None:  # a refit has all settings of its run
        plan.note_unread()
    if isinstance(dataset, StreamedDataset):
        if accelerator.is_main_process:
            dataset.shards  # noqa: B018  (makes them)
        accelerator.wait_for_everyone()
    identity = {
        "model": model,
        "seed": seed,
        "options": plan.options,
        "features": {name: store.describe() for name, store in {**opened, **content}.items()},
        "warm_start": None if warm_start is None else recorded(warm_start),
    }
    workers = Workers.of(accelerator)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        prepared = None
        if plan.trainer is not None:
            prepared = prepare_model(plan, log, opened, seed, warm_start, dataset_path, workers, refit is None)
        with run_to_train(
            out,
            identity,
            dataset,
            dataset_path=dataset_path,
            resume=resume,
            facts=None if refit is None else refit.facts,
            workers=workers,
        ) as run:
            if run.finished:
                return run
            facts: dict[str, Any] = {}
            if prepared is not None:
                facts = _train(plan, prepared, log, run, identity, accelerator, on_epoch, refit)
            elif workers.main:
                facts = _fit(plan, log, run, seed)
            if not workers.main:
                return run
            earlier = [] if warm_start is None else [Run.open(warm_start)]
            facts["trained_on"] = record_logs(dataset, run, earlier, whole=refit is not None)
            made = run.add(finished=True, **facts)
            forget_request(made.folder)
            return made


def _streamed(plan: Plan, dataset: Dataset, path: Path | str | None) -> StreamedDataset:
    """The dataset without its interactions in memory.

    Raises:
        PalateError: it has no folder, or neighbours are to be fitted.
    """
    if plan.neighbours.sources:
        raise PalateError(
            "neighbours hold the whole log in memory", "Leave out trainer.stream, or --neighbours (or say none)."
        )
    folder = dataset.folder or path
    if folder is None:
        raise PalateError("trainer.stream reads a dataset's folder, and there is none", "Save the dataset first.")
    return dataset if isinstance(dataset, StreamedDataset) else StreamedDataset.open(folder)


def _fit(plan: Plan, dataset: Dataset, run: Run, seed: int) -> dict[str, Any]:
    """A model that is counted, not trained."""
    assert issubclass(plan.kind, FittedRanker)
    started = time.perf_counter()
    with working(f"Fitting {run.info['model']}"):
        recommender = plan.kind.fit(dataset, plan.ranker, seed=seed)
        save_recommender(run, recommender)
    return {"seconds": round(time.perf_counter() - started, 3), "describe": recommender.describe()}


def _train(
    plan: Plan,
    prepared: Prepared,
    dataset: Dataset,
    run: Run,
    identity: dict[str, Any],
    accelerator: Accelerator,
    on_epoch: Callable[[Row], None] | None,
    refit: Refit | None,
) -> dict[str, Any]:
    assert plan.trainer is not None
    assert plan.objective is not None
    trainer = Trainer(
        model=prepared.model,
        step=prepared.model.training_step(plan.objective, prepared.rows),
        data=prepared.data,
        counts=dataset.train_counts,
        validate=prepared.validation,
        config=plan.trainer,
        accelerator=accelerator,
        folder=run.folder,
        config_hash=digest(json.dumps({**identity, "data": dataset.fingerprint}, sort_keys=True)),
        on_epoch=on_epoch,
        epochs=None if refit is None else refit.epochs,
    )
    facts = {**summary(trainer.run(), plan.trainer, prepared.model), **trainer.ending}
    if refit is not None:
        if refit.neighbours is not None and accelerator.is_main_process:
            facts |= renew_neighbours(run, dataset, plan.neighbours, refit.neighbours)
    elif plan.neighbours.sources and accelerator.is_main_process:
        return neighbours_added(facts, run, dataset, plan.neighbours, plan.trainer, identity["seed"])
    return facts


def neighbours_added(
    facts: dict[str, Any], run: Run, dataset: Dataset, config: NeighboursConfig, trainer: TrainerConfig, seed: int
) -> dict[str, Any]:
    """Give the model of the best epoch its neighbours; the facts of the training with those of the neighbours."""
    added = add_neighbours(run, dataset, config, trainer, seed)
    near = added["neighbours"]
    seconds = round(facts["seconds"] + near["seconds"], 3)
    return {**facts, **added, "seconds": seconds, "best": {**facts["best"], **near["after"]}}


def summary(rows: list[Row], config: TrainerConfig, model: TrainedRanker) -> dict[str, Any]:
    """What ``run.json`` records of a finished training; ``best`` is the validation of the weights that were saved."""
    validated = any(config.metric in row for row in rows)  # a refit has no validation
    best = {k: v for k, v in kept_row(rows, config).items() if not k.endswith("seconds")} if validated else None
    return {
        "seconds": round(sum(row["train_seconds"] + row["eval_seconds"] for row in rows), 3),
        "epochs": rows[-1]["epoch"],
        **({} if best is None else {"best": best}),
        "describe": model.describe(),
    }
