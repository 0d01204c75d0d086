"""An alignment, checked before anything is made: its runs, data, features and settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from palate.alignment.pairs import PairDrawer, sample_pairs
from palate.alignment.prefixes import Prefixes
from palate.alignment.reference import CachedReference, Reference, ReplayedReference
from palate.alignment.settings import AlignmentSettings
from palate.alignment.shown import ShownItems
from palate.alignment.step import AlignStep
from palate.alignment.twins import make_twins
from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.features.fields import FIELDS, FieldStore
from palate.features.hardness import Hardness
from palate.features.store import FeatureStore
from palate.objectives import Preference
from palate.rankers.neighbours import NeighbourScores
from palate.rankers.registry import RANKERS, load_recommender, rankers_that
from palate.rankers.sequential import SequentialRanker
from palate.rankers.trained import TrainedRanker
from palate.recommender import Recommender
from palate.runs.dataset import dataset_of
from palate.runs.run import Run
from palate.runs.trained_on import check_unseen
from palate.runs.workers import Gather, Workers
from palate.seeds import checked_seed
from palate.storage.files import digest
from palate.storage.remote import recorded
from palate.training.plan import Plan, Prepared, Settings, make_plan, prepare_model
from palate.training.warm_start import run_vocabulary


@dataclass(frozen=True)
class Alignment:
    """A checked alignment.

    Attributes:
        start: the run that alignment starts from.
        frozen: the reference's run; mostly the same.
        dataset: what both were trained on.
        stores: the features that ``start`` was trained with.
        plan: the ranker, with the alignment's trainer settings.
        options: what ``run.json`` records under ``alignment``.
    """

    start: Run
    frozen: Run
    dataset: Dataset
    stores: dict[str, FeatureStore]
    seed: int
    plan: Plan
    settings: AlignmentSettings
    options: dict[str, Any]

    @property
    def preference(self) -> Preference | None:
        return self.settings.preference

    @property
    def origin(self) -> dict[str, str]:
        """Where the weights come from."""
        return {
            "run": recorded(self.start.folder),
            "weights": _weights(self.start),
            "reference": _weights(self.frozen),
        }

    def prepare(self, workers: Workers | None = None) -> Prepared:
        """The policy at its start, and the same windows every epoch. Its neighbours' weights stay as they are."""
        prepared = prepare_model(self.plan, self.dataset, self.stores, self.seed, self.start.folder, workers=workers)
        prepared.factored.neighbours = NeighbourScores.load(self.start.model_folder, self.dataset.num_items)
        return replace(prepared, data=replace(prepared.sequences, fixed=True))

    def make_step(self, prepared: Prepared, device: torch.device, gather: Gather | None = None) -> AlignStep:
        """The step, with the reference's states and the pairs' hardness made."""
        assert self.plan.objective is not None
        model = prepared.factored.to(device)
        config, negatives, preference = self.settings.align, self.settings.negatives, self.preference
        reference: Reference | None = None
        if preference is not None and config.weight:  # those that need none are still measured against it
            ranker = load_recommender(self.frozen)
            assert isinstance(ranker, SequentialRanker)
            ranker = ranker.to(device)
            shared = config.dropout == "shared"
            reference = ReplayedReference(ranker, model) if shared else CachedReference(ranker, prepared.sequences)
        pairs = PairDrawer(
            config,
            negatives,
            Prefixes(prepared.sequences.sequences),
            torch.from_numpy(self.dataset.train_counts).float().to(device),
            None if self.dataset.dislikes is None else Prefixes(self.dataset.dislikes),
            joins=gather is not None,
            twins=None if preference is None else make_twins(negatives, self.dataset, self.dataset.folder),
            shown=self._shown(),
        )
        step = AlignStep(config, self.plan.objective, preference, pairs, reference, gather=gather)
        if preference is not None and preference.needs_hardness:
            # Codes of fields are no vectors to compare items by.
            vectors = {name: store for name, store in self.stores.items() if name != FIELDS}
            step.hardness = _fit_hardness(pairs, preference, model, prepared, vectors, self.dataset)
        return step

    def _shown(self) -> ShownItems | None:
        negatives = self.settings.negatives
        if self.preference is None or negatives.chosen.source != "impressions":
            return None
        return ShownItems.of(self.dataset, negatives.shown == "above")


def plan_alignment(
    run: Run | Path | str,
    *,
    objective: str,
    negatives: str,
    seed: int | None = None,
    settings: Settings | None = None,
    reference: Run | Path | str | None = None,
    dataset: Dataset | None = None,
    dataset_path: Path | str | None = None,
    features: Mapping[str, FeatureStore] | None = None,
) -> Alignment:
    """Resolve and check the arguments of :func:`palate.alignment.align.align`."""
    start = Run.opened(run)
    frozen = start if reference is None else Run.opened(reference)
    _check_runs(start, frozen)
    data = dataset_of(start, dataset, dataset_path)
    check_unseen(start, data, "valid")
    checked = AlignmentSettings.parse(objective, negatives, settings or {})
    plan = _ranker_plan(start, checked.trainer)
    options = checked.check_dataset(data, data.folder)
    if checked.preference is not None and checked.align.dropout == "shared":
        _check_shared(start, frozen)
    stores = _open_features(start, data, features)
    seed = start.seed if seed is None else checked_seed(seed)
    return Alignment(start, frozen, data, stores, seed, plan, checked, options)


def check_alignable(model: str, where: str) -> None:
    """Refuse a ranker whose scores of the next item are no products of vectors.

    Args:
        where: what is of this ranker, in messages.

    Raises:
        PalateError: saying why, and which rankers can be aligned.
    """
    kind = RANKERS[model]
    if _alignable(kind):
        return
    if issubclass(kind, SequentialRanker):
        why = "is trained on masked items and not on the next one"
    elif issubclass(kind, TrainedRanker):
        why = "writes codes and does not compare items"
    else:
        why = "is not trained by gradient"
    raise PalateError(
        f"{where} is a {model}, which {why}: it cannot be aligned", f"Align a run of {rankers_that(_alignable)}."
    )


def _alignable(kind: type[Recommender]) -> bool:
    return issubclass(kind, SequentialRanker) and kind.causal


def _check_runs(start: Run, reference: Run) -> None:
    for run in (start, reference):
        check_alignable(run.info["model"], str(run.folder))
        if not run.finished:
            raise run.unfinished()
    if start.catalogue.fingerprint != reference.catalogue.fingerprint:
        raise PalateError(
            f"the reference {reference.folder} knows other items than {start.folder}",
            "Take a reference that was trained on the same dataset.",
        )
    if start.info["dataset"]["fingerprint"] != reference.info["dataset"]["fingerprint"]:
        raise PalateError(
            f"the reference {reference.folder} was trained on another split or log than {start.folder}",
            "Take a reference that was trained on the same dataset.",
        )
    if _reads_times(reference) and not _reads_times(start):
        raise PalateError(
            f"the reference {reference.folder} reads times and {start.folder} does not",
            "Take a reference that reads what the run reads.",
        )
    length = _options(start)["settings"]["ranker"]["max_length"]
    if _options(reference)["settings"]["ranker"]["max_length"] != length:
        raise PalateError(
            f"the reference {reference.folder} reads histories of another length", "Train both with one max_length."
        )


def _reads_times(run: Run) -> bool:
    kind = RANKERS[run.info["model"]]
    assert issubclass(kind, SequentialRanker)
    return kind.Config.parse(_options(run)["settings"]["ranker"], where=f"{run.folder / 'run.json'}").reads_times


def _options(run: Run) -> dict[str, Any]:
    """What the run was trained with."""
    options: dict[str, Any] = run.info["options"]
    try:
        lacking = [key for key in ("modalities", "missing", "objective") if key not in options]
        options["settings"]["ranker"]["max_length"], options["settings"]["trainer"]
    except (KeyError, TypeError):
        lacking = ["settings"]
    if lacking:
        raise PalateError(f"{run.folder / 'run.json'} is damaged: it lacks options.{lacking[0]}", "Train it again.")
    return options


def _check_shared(start: Run, reference: Run) -> None:
    """Shared dropout masks mean something only where two models draw them alike."""
    same = all(start.info[key] == reference.info[key] for key in ("model", "features"))
    if not same or _options(start)["settings"]["ranker"] != _options(reference)["settings"]["ranker"]:
        raise PalateError(
            f"dropout cannot be shared: the reference {reference.folder} is another model than {start.folder}",
            "Leave out align.dropout, or take a reference of the same settings.",
        )
    if _options(start)["settings"]["ranker"].get("ffn") == "moe":
        raise PalateError(
            "dropout cannot be shared by a mixture of experts: its masks follow the routing, which alignment moves",
            "Leave out align.dropout.",
        )


def _open_features(
    start: Run, dataset: Dataset, features: Mapping[str, FeatureStore] | None
) -> dict[str, FeatureStore]:
    """The stores that the run was trained with, found by their fingerprint among the dataset's."""
    required: dict[str, dict[str, Any]] = start.info["features"]
    if not required:
        return {}
    candidates = dict(features or {})
    found: dict[str, FeatureStore] = {}
    folders = sorted(dataset.folder.glob("features/*/")) if dataset.folder is not None and not features else []
    for name, facts in required.items():
        store = candidates.get(name)
        vocabulary = run_vocabulary(start) if name == FIELDS else None
        if vocabulary is not None:
            store = FieldStore.of(vocabulary, dataset.catalogue, dataset.items)
        # The store of the modality's own name first: most often that is the one.
        for folder in sorted(folders, key=lambda f: f.name != name):
            if store is None or store.fingerprint != facts["fingerprint"]:
                store = _readable(folder, dataset)
        if store is None or store.fingerprint != facts["fingerprint"]:
            raise PalateError(
                f"the {name} features that {start.folder} was trained with ({facts['encoder']}, "
                f"{facts['fingerprint']}) are not there",
                "Encode the dataset as it was for that run.",
            )
        found[name] = store
    return found


def _readable(folder: Path, dataset: Dataset) -> FeatureStore | None:
    """A store, or None for one that is damaged or of another catalogue: whatever it is, no run was trained with it."""
    try:
        return FeatureStore.load(folder, dataset.catalogue)
    except PalateError:
        return None


def _ranker_plan(start: Run, trainer: Mapping[str, Any]) -> Plan:
    """The run's ranker, with settings of the trainer over those that it was trained with."""
    options = _options(start)
    settings = {name: dict(values) for name, values in options["settings"].items()}
    for key in ("modalities", "missing"):
        settings["ranker"].pop(key, None)
    settings["trainer"] |= {"stream": False, **trainer}  # pairs look anywhere into the log
    return make_plan(start.info["model"], options["modalities"], options["missing"], options["objective"], settings)


def _weights(run: Run) -> str:
    path = run.model_folder / "weights.safetensors"
    if not path.is_file():
        raise PalateError(f"{run.folder} has no weights", "Train it again.")
    return digest(path.read_bytes())


@torch.no_grad()
def _fit_hardness(
    pairs: PairDrawer,
    preference: Preference,
    model: SequentialRanker,
    prepared: Prepared,
    stores: Mapping[str, FeatureStore],
    dataset: Dataset,
) -> Hardness:
    """Hardness by the preference's settings, fitted to the pairs that the start draws.

    Raises:
        PalateError: no pair can be drawn, or the run has no features to compare items by.
    """
    device = model.device
    counts = torch.from_numpy(dataset.train_counts).float().to(device)
    chosen, rejected, valid = [], [], []
    for drawn in sample_pairs(pairs, model, prepared.sequences, counts):
        chosen.append(drawn.items[:, 0])
        rejected.append(drawn.items[:, 1:])
        valid.append(drawn.rejected.valid)
    if not chosen:
        raise PalateError("no pair could be drawn to measure hardness with", "Choose other negatives or positions.")
    config: Any = preference.config
    return Hardness.fit(
        stores.values(),
        torch.cat(chosen),
        torch.cat(rejected),
        form=config.hardness,
        valid=torch.cat(valid),
        shuffle_of=config.shuffle_of,
        neighbours=config.neighbours,
        spread=config.spread,
        seed=prepared.sequences.seed,
        device=device,
    )
