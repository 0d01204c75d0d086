"""A training, checked before anything is made: its names and settings, its model, data and validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from palate.config import Config
from palate.console import print_note
from palate.data.dataset import Dataset
from palate.data.streamed import StreamedDataset
from palate.errors import PalateError, suggest
from palate.features.fields import FIELDS, FieldStore, make_vocabulary
from palate.features.neighbours import check_sources
from palate.features.store import FeatureStore
from palate.objectives import OBJECTIVES, Objective
from palate.rankers.blend import Blend
from palate.rankers.config import SequentialConfig, TrainedConfig
from palate.rankers.feature import feature_widths
from palate.rankers.fitted import FittedRanker
from palate.rankers.registry import RANKERS, rankers_that
from palate.rankers.sequential import SequentialRanker
from palate.rankers.sharded_ids import sharded
from palate.rankers.trained import TrainedRanker
from palate.runs.run import Run
from palate.runs.workers import Workers
from palate.training.batches import TrainingSequences
from palate.training.codes import check_code_options, check_code_trainer
from palate.training.config import NeighboursConfig, TrainerConfig
from palate.training.item_rows import read_by_rows
from palate.training.item_table import share_of_rows
from palate.training.shared_features import fill_once
from palate.training.size import check_size
from palate.training.streams import StreamedSequences
from palate.training.validation import Validation, parse_metric
from palate.training.warm_start import copy_weights, run_vocabulary

SECTIONS = ("ranker", "objective", "trainer", "neighbours")
Settings = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Plan:
    """A ranker and its settings. ``trainer`` and ``objective`` are None for models that are not trained by gradient.

    Attributes:
        options: all of it as plain values, defaults included: what ``run.json`` records.
        neighbours: what is added to the scores once the ranker is trained; without sources, nothing.
    """

    kind: type[FittedRanker] | type[TrainedRanker]
    ranker: Config
    objective: Objective | None
    trainer: TrainerConfig | None
    options: dict[str, Any]
    neighbours: NeighboursConfig = field(default_factory=NeighboursConfig)

    def note_unread(self) -> None:
        """Print a note for every setting that was given and that nothing reads."""
        if self.trainer is not None:
            self.trainer.note_unread("settings [trainer]")
        if isinstance(config := getattr(self.objective, "config", None), Config):
            config.note_unread(f"settings [objective] of {self.options['objective']}")


@dataclass(frozen=True)
class Prepared:
    """A neural ranker with its features and first weights, its training sequences and its validation.

    Attributes:
        validation: None where the validation targets are trained on.
        rows: whether steps read items by rows, see :func:`palate.training.item_rows.read_by_rows`.
    """

    model: TrainedRanker
    data: TrainingSequences | StreamedSequences
    validation: Validation | None

    @property
    def factored(self) -> SequentialRanker:
        """The model, where its scores are products of vectors."""
        assert isinstance(self.model, SequentialRanker)
        return self.model

    @property
    def sequences(self) -> TrainingSequences:
        """The training sequences, where they are in memory."""
        assert isinstance(self.data, TrainingSequences)
        return self.data

    rows: bool


def checked_sections(settings: Settings) -> dict[str, dict[str, Any]]:
    """A copy of the settings, section by section.

    Raises:
        PalateError: no such section, or one that holds no options.
    """
    for name, values in settings.items():
        if name not in SECTIONS:
            raise PalateError(f"unknown section '{name}' in the settings", suggest(name, SECTIONS))
        if not isinstance(values, Mapping):
            raise PalateError(
                f"the section '{name}' of the settings is {values!r}", 'Options belong in it: {"OPTION": VALUE}.'
            )
    return {name: dict(values) for name, values in settings.items()}


def make_plan(
    model: str,
    modalities: Sequence[str],
    missing: str,
    objective: str,
    settings: Settings,
    neighbours: Sequence[str] = (),
) -> Plan:
    """Resolve names and settings.

    Raises:
        PalateError: an unknown name or setting, or one that this model does not have.
    """
    kind = trainable(model)
    sections = checked_sections(settings)
    options: dict[str, Any] = {"modalities": list(modalities), "missing": missing, "objective": objective}
    where = f"settings [ranker] of {model}"
    if issubclass(kind, FittedRanker):
        _refuse_neural(model, options, sections, neighbours)
        config = kind.Config.parse(sections.get("ranker", {}), where=where)
        return Plan(kind, config, None, None, {**options, "settings": {"ranker": config.model_dump(mode="json")}})
    ranker_settings = sections.get("ranker", {})
    for key in ("modalities", "missing"):
        if key in ranker_settings:
            raise PalateError(f"{where}: '{key}' is an option of its own", f"Give --{key}.")
    objective_kind = OBJECTIVES[objective]
    objective_config = objective_kind.Config.parse(
        sections.get("objective", {}), where=f"settings [objective] of {objective}"
    )
    content: dict[str, Any] = {"modalities": tuple(modalities)}
    if issubclass(kind, SequentialRanker):
        content["missing"] = missing
    else:
        sources = [*neighbours, *sections.get("neighbours", {}).get("sources", ())]
        check_code_options(model, missing, objective_config, sources)
    ranker = kind.Config.parse({**content, **ranker_settings}, where=where)
    trainer = TrainerConfig.parse(sections.get("trainer", {}), where="settings [trainer]")
    trainer = trainer.model_copy(update={"metric": parse_metric(trainer.metric)[0]})
    resolved = {"ranker": ranker, "objective": objective_config, "trainer": trainer}
    options["settings"] = {name: config.model_dump(mode="json") for name, config in resolved.items()}
    added = neighbours_config(sections.get("neighbours", {}), neighbours)
    if added.sources:  # runs without them are recorded as they were before there were any
        options["settings"]["neighbours"] = added.model_dump(mode="json")
    return Plan(kind, ranker, objective_kind(objective_config), trainer, options, added)


def trainable(model: str) -> type[FittedRanker] | type[TrainedRanker]:
    """The class of a ranker that is fitted to a log, or trained on one.

    Raises:
        PalateError: there is none of this name, or it is made otherwise.
    """
    kind = RANKERS[model]
    if issubclass(kind, FittedRanker | TrainedRanker):
        return kind
    if kind is Blend:
        raise PalateError(f"{model} is made of trained runs", "Train its parts, then: palate blend RUN RUN --out RUN.")
    remedy = "Fine-tune it: palate mllm sft." if model == "mllm" else "Derive it from FittedRanker or TrainedRanker."
    raise PalateError(f"{model} is not trained like a ranker", remedy)


def neighbours_config(settings: dict[str, Any], sources: Sequence[str]) -> NeighboursConfig:
    """The neighbours' settings, with the sources of the option of that name."""
    if "sources" in settings and sources:
        raise PalateError("settings [neighbours]: 'sources' is an option of its own", "Give --neighbours.")
    if settings and not (sources or settings.get("sources")):
        raise PalateError("settings [neighbours] without sources", "Give --neighbours co-occurrence,lexical, say.")
    return NeighboursConfig.parse(
        {**settings, **({"sources": tuple(sources)} if sources else {})}, where="settings [neighbours]"
    )


def _refuse_neural(
    model: str, options: dict[str, Any], sections: dict[str, dict[str, Any]], neighbours: Sequence[str]
) -> None:
    if neighbours or sections.get("neighbours"):
        raise PalateError(
            f"--neighbours is a part of neural rankers, and {model} is none",
            f"Leave it out, or choose {rankers_that(lambda one: issubclass(one, SequentialRanker))}.",
        )
    if options["modalities"] != ["id"]:
        raise PalateError(
            f"{model} reads ids only",
            f"Leave out --modalities, or choose {rankers_that(lambda one: issubclass(one, TrainedRanker))}.",
        )
    if options["objective"] != "cross-entropy" or options["missing"] != "learned":
        raise PalateError(f"{model} has no objective and no features", "Leave out --objective and --missing.")
    for section in ("objective", "trainer"):
        if sections.get(section):
            raise PalateError(f"{model} is not trained by gradient: it has no [{section}] settings", "Leave them out.")


def check_validations(steps: int, trainer: TrainerConfig) -> None:
    """Refuse to validate more often than there are steps in an epoch."""
    if steps < trainer.validations_per_epoch:
        raise PalateError(
            f"an epoch has {steps} steps, fewer than {trainer.validations_per_epoch} validations",
            "Lower trainer.validations_per_epoch or trainer.batch_size.",
        )


def add_fields(
    config: Config, dataset: Dataset, stores: Mapping[str, FeatureStore], warm_start: Path | str | None = None
) -> dict[str, FeatureStore]:
    """The stores, and where the modality ``fields`` is read and not among them, that of the dataset's catalogue.

    Raises:
        PalateError: a field that the catalogue does not have.
    """
    found = dict(stores)
    if isinstance(config, SequentialConfig) and FIELDS in config.modalities and FIELDS not in found:
        earlier = None if warm_start is None else run_vocabulary(Run.open(warm_start))
        vocabulary = make_vocabulary(dataset.catalogue, config.fields, earlier)
        found[FIELDS] = FieldStore.of(vocabulary, dataset.catalogue, dataset.items)
    return found


def training_data(
    dataset: Dataset, config: TrainedConfig, trainer: TrainerConfig, seed: int
) -> TrainingSequences | StreamedSequences:
    """The training sequences, in memory or read from shards.

    Raises:
        PalateError: a ranker that reads times, which shards do not hold.
    """
    if isinstance(dataset, StreamedDataset):
        if config.reads_times:
            raise PalateError(
                "trainer.stream reads shards, which hold items without their times",
                "Leave out trainer.stream, or set ranker.time=none.",
            )
        return StreamedSequences(dataset.shards, config.max_length, trainer.batch_size, seed, trainer.stream_buffer)
    sequences = dataset.train_sequences(times=config.reads_times)
    return TrainingSequences(sequences, config.max_length, trainer.batch_size, seed)


def _check_times(plan: Plan, config: TrainedConfig, dataset: Dataset, workers: Workers | None) -> None:
    """Refuse settings that need times where there are none; say that a ranker that would read them has none to read."""
    if not config.reads_times or dataset.timestamps is not None:
        return
    if config.needs_times:
        raise PalateError(
            f"{dataset.name} has no times, which these settings of '{plan.kind.name}' read",
            "Prepare the log with its times, or leave out ranker.time and ranker.calendar.",
        )
    if workers is None or workers.main:
        print_note(f"{dataset.name} has no times: '{plan.kind.name}' learns from the order of the items alone.")


def prepare_model(
    plan: Plan,
    dataset: Dataset,
    stores: Mapping[str, FeatureStore],
    seed: int,
    warm_start: Path | str | None,
    dataset_path: Path | str | None = None,
    workers: Workers | None = None,
    validate: bool = True,
) -> Prepared:
    """Everything that can still be refused, before the run's folder is made. Several workers call it together.

    Args:
        validate: whether there is a validation.

    Raises:
        PalateError: absent features, nothing to learn or to validate with, impossible sizes, another model's weights.
    """
    config, trainer = plan.ranker, plan.trainer
    assert isinstance(config, TrainedConfig)
    assert trainer is not None
    assert issubclass(plan.kind, TrainedRanker)
    if not issubclass(plan.kind, SequentialRanker):
        check_code_trainer(plan.kind.name, trainer, warm_start)
    widths = feature_widths(config.modalities, stores)
    check_sources(dataset, plan.neighbours.sources, dataset_path)
    data = training_data(dataset, config, trainer, seed)
    _check_times(plan, config, dataset, workers)
    if not data.num_targets:
        raise PalateError("no user has two training interactions: there is nothing to learn", "Prepare with more data.")
    with sharded(share_of_rows(config, trainer, workers or Workers(), warm_start)):
        check_size(plan.kind, config, dataset.num_items, widths, trainer.device)
        model = plan.kind(config, dataset.num_items, widths)
    check_validations(data.num_batches(1), trainer)
    if not model.causal and trainer.recency_half_life:
        raise PalateError(
            f"trainer.recency_half_life weighs the next item, and '{plan.kind.name}' is trained on masked ones",
            f"Leave it out, or choose {rankers_that(lambda one: issubclass(one, TrainedRanker) and one.causal)}.",
        )
    assert plan.objective is not None
    rows = isinstance(model, SequentialRanker) and read_by_rows(
        model, plan.objective, trainer, data.num_targets // data.num_batches(1)
    )
    warm = torch.from_numpy(dataset.train_counts > 0)
    warm[0] = True
    model.popularity = torch.from_numpy(dataset.train_counts).float()

    if isinstance(model, SequentialRanker):
        _fill(model, dataset, stores, warm, warm_start, workers or Workers())
    else:
        model.set_features(stores, warm)
    if workers is None or workers.main:
        for note in model.notes():
            print_note(note)
    validation = None
    if validate:
        validation = Validation(
            dataset, trainer.metric, trainer.exclude_seen, trainer.validate_users, seed, config.reads_times
        )
        if warm_start is not None:
            validation.leave_out(dataset, Run.open(warm_start))
    return Prepared(model, data, validation, rows)


def _fill(
    model: SequentialRanker,
    dataset: Dataset,
    stores: Mapping[str, FeatureStore],
    warm: torch.Tensor,
    warm_start: Path | str | None,
    workers: Workers,
) -> None:
    """Give a model its features, and the weights of the run that it starts from."""

    def fill() -> None:
        model.set_features(stores, warm)
        if warm_start is not None:
            copy_weights(Run.open(warm_start), model, dataset.catalogue)
            model.set_features(stores, warm, keep_statistics=True)

    fill_once(model, workers, fill, lambda made: model.set_features(stores, warm, made=made))
