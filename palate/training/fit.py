"""Train a ranker by name: the Python call behind ``palate train``."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from palate.config import Config
from palate.data.dataset import Dataset
from palate.errors import PalateError, suggest
from palate.features.store import FeatureStore
from palate.files import atomic_folder, digest
from palate.objectives import OBJECTIVES
from palate.rankers.registry import RANKERS
from palate.rankers.sequential import SequentialRanker, feature_widths
from palate.runs import Run
from palate.training.batches import TrainingSequences
from palate.training.config import TrainerConfig
from palate.training.logs import Row
from palate.training.loop import Trainer, start_workers
from palate.training.validation import Validation, parse_metric
from palate.training.warm_start import copy_weights

SECTIONS = ("ranker", "objective", "trainer")


def train(
    dataset: Dataset,
    *,
    model: str,
    out: Path | str,
    seed: int = 0,
    modalities: Sequence[str] = ("id",),
    missing: str = "learned",
    objective: str = "cross-entropy",
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    features: Mapping[str, FeatureStore] | None = None,
    dataset_path: Path | str | None = None,
    warm_start: Path | str | None = None,
    resume: bool = False,
    on_epoch: Callable[[Row], None] | None = None,
) -> Run:
    """Train ``model`` on the dataset's training split and return its run.

    Args:
        model: a name of :data:`palate.rankers.registry.RANKERS`.
        out: the run folder; it must not hold a run yet, unless ``resume``.
        modalities: what makes an item's vector: ``id`` and names of ``features`` (neural rankers).
        missing: what stands for an absent feature: ``learned``, ``mean`` or ``zeros``.
        objective: a name of :data:`palate.objectives.OBJECTIVES` (neural rankers).
        settings: further options by section: ``ranker``, ``objective``, ``trainer``.
        features: feature stores by modality.
        dataset_path: recorded in the run, so that later commands find the dataset.
        warm_start: a run to take the weights from, item by item id: training goes on with new logs.
        resume: continue an interrupted run; a finished one is returned as it is.
        on_epoch: called with each row of ``metrics.jsonl``.

    Raises:
        PalateError: unknown names or options, absent features, an existing run: before any work.
    """
    kind = RANKERS[model]
    given = {name: dict(values) for name, values in (settings or {}).items()}
    for name in given:
        if name not in SECTIONS:
            raise PalateError(f"unknown section '{name}' in the settings", suggest(name, SECTIONS))
    if issubclass(kind, SequentialRanker):
        plan = _plan_neural(kind, modalities, missing, objective, given)
    else:
        plan = _plan_classical(kind, model, modalities, given)
    options = {"modalities": list(modalities), "missing": missing, "objective": objective, "settings": plan["resolved"]}
    stores = {name: store for name, store in (features or {}).items() if name in modalities}
    if issubclass(kind, SequentialRanker):
        _check_data(dataset, plan, stores)
    accelerator = start_workers(plan["trainer"])
    if accelerator.is_main_process:
        _open(out, model, options, seed, dataset, dataset_path, stores, warm_start, resume)
    accelerator.wait_for_everyone()
    run = Run.open(out)
    if run.info.get("finished"):
        return run
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        started = time.perf_counter()
        if issubclass(kind, SequentialRanker):
            facts = _train_neural(kind, plan, dataset, stores, run, seed, warm_start, accelerator, on_epoch)
        else:
            recommender = kind.fit(dataset, plan["ranker"], seed=seed)
            with atomic_folder(run.model_folder, replace=True) as part:
                recommender.save(part)
            facts = {"seconds": round(time.perf_counter() - started, 3), "describe": recommender.describe()}
    return run.add(finished=True, **facts) if accelerator.is_main_process else run


def _plan_neural(
    kind: type[SequentialRanker],
    modalities: Sequence[str],
    missing: str,
    objective: str,
    given: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    ranker = {"modalities": tuple(modalities), "missing": missing, **given.get("ranker", {})}
    objective_kind = OBJECTIVES[objective]
    plan: dict[str, Any] = {
        "ranker": kind.Config.parse(ranker, where=f"settings [ranker] of {kind.name}"),
        "objective": objective_kind.Config.parse(
            given.get("objective", {}), where=f"settings [objective] of {objective}"
        ),
        "trainer": TrainerConfig.parse(given.get("trainer", {}), where="settings [trainer]"),
        "objective_kind": objective_kind,
    }
    label, _, _ = parse_metric(plan["trainer"].metric)
    plan["trainer"] = plan["trainer"].model_copy(update={"metric": label})
    plan["resolved"] = {name: plan[name].model_dump(mode="json") for name in SECTIONS}
    return plan


def _check_data(dataset: Dataset, plan: dict[str, Any], stores: Mapping[str, FeatureStore]) -> None:
    """What can only be refused once the data are known, still before the run folder is made."""
    feature_widths(plan["ranker"].modalities, stores)
    if (dataset.train_sequences().lengths < 2).all():
        raise PalateError("no user has two training interactions: there is nothing to learn", "Prepare with more data.")


def _plan_classical(
    kind: Any, model: str, modalities: Sequence[str], given: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    if tuple(modalities) != ("id",):
        raise PalateError(f"{model} reads ids only", "Leave out --modalities, or choose sasrec or gru4rec.")
    for section in ("objective", "trainer"):
        if given.get(section):
            raise PalateError(f"{model} is not trained by gradient: it has no [{section}] settings", "Leave them out.")
    config: Config = kind.Config.parse(given.get("ranker", {}), where=f"settings [ranker] of {model}")
    return {
        "ranker": config,
        "trainer": TrainerConfig(device="cpu"),
        "resolved": {"ranker": config.model_dump(mode="json")},
    }


def _open(
    out: Path | str,
    model: str,
    options: dict[str, Any],
    seed: int,
    dataset: Dataset,
    dataset_path: Path | str | None,
    stores: Mapping[str, FeatureStore],
    warm_start: Path | str | None,
    resume: bool,
) -> Run:
    described = {name: store.describe() for name, store in stores.items()}
    before = None if warm_start is None else str(Path(warm_start).resolve())
    if not (resume and (Path(out) / "run.json").exists()):
        return Run.start(
            out,
            model=model,
            options=options,
            seed=seed,
            dataset=dataset,
            dataset_path=dataset_path,
            features=described,
            warm_start=before,
        )
    run = Run.open(out)
    asked = {"model": model, "seed": seed, "options": options, "features": described, "warm_start": before}
    for key, value in asked.items():
        if json.dumps(run.info[key], sort_keys=True) != json.dumps(value, sort_keys=True):
            raise PalateError(f"{out} was started with another {key}", "Resume with the same options, or change --out.")
    if run.info["dataset"]["fingerprint"] != dataset.fingerprint:
        raise PalateError(f"{out} was started on other data", "Resume with the same dataset, or change --out.")
    return run


def _train_neural(
    kind: type[SequentialRanker],
    plan: dict[str, Any],
    dataset: Dataset,
    stores: Mapping[str, FeatureStore],
    run: Run,
    seed: int,
    warm_start: Path | str | None,
    accelerator: Accelerator,
    on_epoch: Callable[[Row], None] | None,
) -> dict[str, Any]:
    config, trainer_config = plan["ranker"], plan["trainer"]
    model = kind(config, dataset.num_items, feature_widths(config.modalities, stores))
    counts = dataset.train_counts
    warm = torch.from_numpy(counts > 0)
    warm[0] = True
    model.set_features(stores, warm)
    if warm_start is not None:
        copy_weights(Run.open(warm_start), model, dataset.catalogue)
    data = TrainingSequences(dataset.train_sequences(), config.max_length, trainer_config.batch_size, seed)
    validation = Validation(
        dataset, trainer_config.metric, trainer_config.exclude_seen, trainer_config.validate_users, seed
    )
    identity = {
        "options": run.info["options"],
        "model": run.info["model"],
        "data": dataset.fingerprint,
        "features": {name: store.fingerprint for name, store in stores.items()},
        "warm_start": str(warm_start),
        "seed": seed,
    }
    trainer = Trainer(
        model,
        plan["objective_kind"](plan["objective"]),
        data,
        np.asarray(counts),
        validation,
        trainer_config,
        accelerator,
        run.folder,
        digest(json.dumps(identity, sort_keys=True)),
        on_epoch,
    )
    rows = trainer.run()
    best = max((row for row in rows if trainer_config.metric in row), key=lambda row: float(row[trainer_config.metric]))
    return {
        "seconds": round(sum(row["train_seconds"] + row["eval_seconds"] for row in rows), 3),
        "epochs": len(rows),
        "best": {k: v for k, v in best.items() if not k.endswith("seconds")},
        "describe": model.describe(),
    }
