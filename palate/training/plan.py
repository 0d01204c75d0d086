"""What a training call asks for, checked before anything is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from palate.config import Config
from palate.data.dataset import Dataset
from palate.errors import PalateError, suggest
from palate.features.store import FeatureStore
from palate.objectives import OBJECTIVES, Objective
from palate.rankers.blend import Blend
from palate.rankers.registry import RANKERS
from palate.rankers.sequential import SequentialConfig, SequentialRanker, feature_widths
from palate.runs import Run
from palate.training.batches import TrainingSequences
from palate.training.config import TrainerConfig
from palate.training.validation import Validation, parse_metric
from palate.training.warm_start import copy_weights

SECTIONS = ("ranker", "objective", "trainer")
Settings = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Plan:
    """A ranker and its settings. ``trainer`` and ``objective`` are None for models that are not trained by gradient.

    Attributes:
        options: all of it as plain values, defaults included: what ``run.json`` records.
    """

    kind: Any
    ranker: Config
    objective: Objective | None
    trainer: TrainerConfig | None
    options: dict[str, Any]


@dataclass(frozen=True)
class Prepared:
    """A neural ranker with its features and first weights, its training sequences and its judge."""

    model: SequentialRanker
    data: TrainingSequences
    validation: Validation


def make_plan(model: str, modalities: Sequence[str], missing: str, objective: str, settings: Settings) -> Plan:
    """Resolve names and settings.

    Raises:
        PalateError: an unknown name or setting, or one that this model does not have.
    """
    kind = RANKERS[model]
    given = {name: dict(values) for name, values in settings.items()}
    for name in given:
        if name not in SECTIONS:
            raise PalateError(f"unknown section '{name}' in the settings", suggest(name, SECTIONS))
    options: dict[str, Any] = {"modalities": list(modalities), "missing": missing, "objective": objective}
    where = f"settings [ranker] of {model}"
    if kind is Blend:
        raise PalateError(f"{model} is made of trained runs", "Train its parts, then: palate blend RUN RUN --out RUN.")
    if not issubclass(kind, SequentialRanker) and not hasattr(kind, "fit"):
        raise PalateError(f"{model} is not trained like a ranker", "Fine-tune it: palate mllm sft.")
    if not issubclass(kind, SequentialRanker):
        _refuse_neural(model, options, given)
        config = kind.Config.parse(given.get("ranker", {}), where=where)
        return Plan(kind, config, None, None, {**options, "settings": {"ranker": config.model_dump(mode="json")}})
    ranker_settings = given.get("ranker", {})
    for key in ("modalities", "missing"):
        if key in ranker_settings:
            raise PalateError(f"{where}: '{key}' is an option of its own", f"Give --{key}.")
    ranker = kind.Config.parse({"modalities": tuple(modalities), "missing": missing, **ranker_settings}, where=where)
    objective_kind = OBJECTIVES[objective]
    objective_config = objective_kind.Config.parse(
        given.get("objective", {}), where=f"settings [objective] of {objective}"
    )
    trainer = TrainerConfig.parse(given.get("trainer", {}), where="settings [trainer]")
    trainer = trainer.model_copy(update={"metric": parse_metric(trainer.metric)[0]})
    resolved = {"ranker": ranker, "objective": objective_config, "trainer": trainer}
    options["settings"] = {name: config.model_dump(mode="json") for name, config in resolved.items()}
    return Plan(kind, ranker, objective_kind(objective_config), trainer, options)


def _refuse_neural(model: str, options: dict[str, Any], given: dict[str, dict[str, Any]]) -> None:
    if options["modalities"] != ["id"]:
        raise PalateError(f"{model} reads ids only", "Leave out --modalities, or choose sasrec or gru4rec.")
    if options["objective"] != "cross-entropy" or options["missing"] != "learned":
        raise PalateError(f"{model} has no objective and no features", "Leave out --objective and --missing.")
    for section in ("objective", "trainer"):
        if given.get(section):
            raise PalateError(f"{model} is not trained by gradient: it has no [{section}] settings", "Leave them out.")


def check_validations(steps: int, trainer: TrainerConfig) -> None:
    """Refuse to validate more often than there are steps in an epoch."""
    if steps < trainer.validations_per_epoch:
        raise PalateError(
            f"an epoch has {steps} steps, fewer than {trainer.validations_per_epoch} validations",
            "Lower trainer.validations_per_epoch or trainer.batch_size.",
        )


def prepare_model(
    plan: Plan,
    dataset: Dataset,
    stores: Mapping[str, FeatureStore],
    seed: int,
    warm_start: Path | str | None,
) -> Prepared:
    """Everything that can still be refused, before the run's folder is made.

    Raises:
        PalateError: absent features, nothing to learn or to validate with, impossible sizes, another model's weights.
    """
    config, trainer = plan.ranker, plan.trainer
    assert isinstance(config, SequentialConfig)
    assert trainer is not None
    widths = feature_widths(config.modalities, stores)
    sequences = dataset.train_sequences()
    if (sequences.lengths < 2).all():
        raise PalateError("no user has two training interactions: there is nothing to learn", "Prepare with more data.")
    model: SequentialRanker = plan.kind(config, dataset.num_items, widths)
    warm = torch.from_numpy(dataset.train_counts > 0)
    warm[0] = True
    model.set_features(stores, warm)
    model.popularity = torch.from_numpy(dataset.train_counts).float()
    if warm_start is not None:
        copy_weights(Run.open(warm_start), model, dataset.catalogue)
        model.set_features(stores, warm, keep_statistics=True)
    data = TrainingSequences(sequences, config.max_length, trainer.batch_size, seed)
    check_validations(data.num_batches(1), trainer)
    return Prepared(
        model,
        data,
        Validation(dataset, trainer.metric, trainer.exclude_seen, trainer.validate_users, seed),
    )
