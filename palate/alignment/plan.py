"""What an alignment asks for, checked before anything is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from palate.alignment.hardness import fit_hardness
from palate.alignment.pairs import AlignConfig, PairDrawer
from palate.alignment.prefixes import Prefixes
from palate.alignment.reference import CachedReference, Reference, ReplayedReference
from palate.alignment.step import AlignStep
from palate.alignment.twins import make_twins, twin_origin
from palate.data.dataset import Dataset
from palate.errors import PalateError, suggest
from palate.features.fields import FIELDS, FieldStore
from palate.features.store import FeatureStore
from palate.negatives.config import NegativesConfig
from palate.objectives import PREFERENCES, Preference
from palate.rankers.neighbours import NeighbourScores
from palate.rankers.registry import RANKERS, load_recommender
from palate.rankers.sequential import SequentialRanker
from palate.runs.run import Run
from palate.runs.workers import Gather
from palate.storage.files import digest
from palate.training.attach import open_data
from palate.training.plan import Plan, Prepared, Settings, make_plan, prepare_model
from palate.training.warm_start import run_vocabulary

SECTIONS = ("preference", "negatives", "align", "trainer")
# Alignment starts from a trained model: small steps, few of them, looked at often. What is not named here is as the
# run was trained.
TRAINER = {
    "epochs": 3,
    "learning_rate": 1e-4,
    "schedule": "constant",
    "warmup_steps": 0,
    "patience": 3,
    "validate_every": 1,
    "validations_per_epoch": 1,
}


@dataclass(frozen=True)
class Alignment:
    """A checked request.

    Attributes:
        start: the run that alignment starts from.
        frozen: the reference's run; mostly the same.
        dataset: what both were trained on.
        path: its folder, or None.
        stores: the features that ``start`` was trained with.
        plan: the ranker, with the alignment's trainer settings.
        options: what ``run.json`` records under ``alignment``.
    """

    start: Run
    frozen: Run
    dataset: Dataset
    path: Path | None
    stores: dict[str, FeatureStore]
    seed: int
    plan: Plan
    config: AlignConfig
    negatives: NegativesConfig
    preference: Preference | None
    options: dict[str, Any]

    @property
    def origin(self) -> dict[str, str]:
        """Where the weights come from."""
        return {
            "run": str(self.start.folder.resolve()),
            "weights": _weights(self.start),
            "reference": _weights(self.frozen),
        }

    def prepare(self) -> Prepared:
        """The policy at its start, and the same windows every epoch. Its neighbours' weights stay as they are."""
        prepared = prepare_model(self.plan, self.dataset, self.stores, self.seed, self.start.folder)
        prepared.model.neighbours = NeighbourScores.load(self.start.model_folder, self.dataset.num_items)
        return replace(prepared, data=replace(prepared.data, fixed=True))

    def make_step(self, prepared: Prepared, device: torch.device, gather: Gather | None = None) -> AlignStep:
        """The step, with the reference's states and the pairs' hardness made."""
        assert self.plan.objective is not None
        model = prepared.model.to(device)
        reference: Reference | None = None
        if self.preference is not None and self.config.weight:  # those that need none are still measured against it
            ranker = load_recommender(self.frozen)
            assert isinstance(ranker, SequentialRanker)
            ranker = ranker.to(device)
            shared = self.config.dropout == "shared"
            reference = ReplayedReference(ranker, model) if shared else CachedReference(ranker, prepared.data)
        pairs = PairDrawer(
            self.config,
            self.negatives,
            Prefixes(prepared.data.sequences),
            torch.from_numpy(self.dataset.train_counts).float().to(device),
            None if self.dataset.dislikes is None else Prefixes(self.dataset.dislikes),
            joins=gather is not None,
            twins=None if self.preference is None else make_twins(self.negatives, self.dataset, self.path),
        )
        step = AlignStep(self.config, self.plan.objective, self.preference, pairs, reference, gather=gather)
        if self.preference is not None and self.preference.needs_hardness:
            # Codes of fields are no vectors to compare items by.
            vectors = {name: store for name, store in self.stores.items() if name != FIELDS}
            step.hardness = fit_hardness(pairs, self.preference, model, prepared, vectors, self.dataset)
        return step


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
    """Resolve and check what :func:`palate.alignment.align.align` was asked for; the arguments are the same."""
    start = run if isinstance(run, Run) else Run.open(run)
    frozen = start if reference is None else reference if isinstance(reference, Run) else Run.open(reference)
    _check_runs(start, frozen)
    data, path = open_data(start, dataset, dataset_path)
    plan, config, pool, preference, told = _settings(start, objective, negatives, settings or {})
    if preference is not None:
        _check_negatives(pool, data)
        told |= twin_origin(pool, data, path)
        if config.dropout == "shared":
            _check_shared(start, frozen)
    stores = _open_features(start, data, path, features)
    seed = start.seed if seed is None else seed
    return Alignment(start, frozen, data, path, stores, seed, plan, config, pool, preference, told)


def _check_runs(start: Run, reference: Run) -> None:
    for run in (start, reference):
        kind = RANKERS[run.info["model"]]
        if not (isinstance(kind, type) and issubclass(kind, SequentialRanker)):
            raise PalateError(
                f"{run.folder} is a {run.info['model']}, which is not trained by gradient: it cannot be aligned",
                "Align a run of sasrec or gru4rec.",
            )
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
    length = _options(start)["settings"]["ranker"]["max_length"]
    if _options(reference)["settings"]["ranker"]["max_length"] != length:
        raise PalateError(
            f"the reference {reference.folder} reads histories of another length", "Train both with one max_length."
        )


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
    start: Run, dataset: Dataset, path: Path | None, given: Mapping[str, FeatureStore] | None
) -> dict[str, FeatureStore]:
    """The stores that the run was trained with, found by their fingerprint among the dataset's."""
    wanted: dict[str, dict[str, Any]] = start.info["features"]
    if not wanted:
        return {}
    candidates = dict(given or {})
    found: dict[str, FeatureStore] = {}
    folders = sorted(path.glob("features/*/")) if path is not None and not given else []
    for name, facts in wanted.items():
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


def _settings(
    start: Run, objective: str, negatives: str, settings: Settings
) -> tuple[Plan, AlignConfig, NegativesConfig, Preference | None, dict[str, Any]]:
    """The ranker's plan with the alignment's trainer, the alignment's own settings, and all of them as plain values."""
    for section in settings:
        if section not in SECTIONS:
            raise PalateError(f"unknown section '{section}' in the settings", suggest(section, SECTIONS))
    options = _options(start)
    trained = {name: dict(values) for name, values in options["settings"].items()}
    for key in ("modalities", "missing"):
        trained["ranker"].pop(key, None)
    trained["trainer"] = {**trained["trainer"], **TRAINER, **settings.get("trainer", {})}
    plan = make_plan(start.info["model"], options["modalities"], options["missing"], options["objective"], trained)
    align_config = AlignConfig.parse(settings.get("align", {}), where="settings [align]")
    given = dict(settings.get("negatives", {}))
    if "strategy" in given:
        raise PalateError("settings [negatives]: 'strategy' is an option of its own", "Give --negatives.")
    negatives_config = NegativesConfig.parse({**given, "strategy": negatives}, where="settings [negatives]")
    preference = None
    told: dict[str, Any] = {"objective": objective, "align": align_config.model_dump(mode="json")}
    if objective != "none":
        kind = preference_for_rankers(objective)
        config = kind.Config.parse(settings.get("preference", {}), where=f"settings [preference] of {objective}")
        if getattr(config, "noise", None) == "lora":
            raise PalateError(
                "noise 'lora' perturbs the adapters of a language model, and this model has none",
                "Use noise 'logits' or 'none'.",
            )
        preference = kind(config)
        told |= {
            "preference": config.model_dump(mode="json"),
            "negatives": negatives_config.model_dump(mode="json"),
        }
    elif settings.get("preference") or settings.get("negatives"):
        raise PalateError("--objective none has no pairs", "Leave out the settings of preference and negatives.")
    if not align_config.cross_entropy and (preference is None or not align_config.weight):
        raise PalateError("nothing is minimised", "Raise align.cross_entropy, or give an --objective and a --weight.")
    return plan, align_config, negatives_config, preference, told


def preference_for_rankers(objective: str) -> type[Preference]:
    """The class of an objective.

    Raises:
        PalateError: there is none, or it is not for scores that only a softmax sees.
    """
    kind: type[Preference] = PREFERENCES[objective]
    if kind.needs_zero:
        raise PalateError(
            f"{objective} judges each item by itself, and a ranker's scores have no zero to be judged by",
            "Use bpr or softmax; for a language model `palate mllm align` has it.",
        )
    return kind


def _check_negatives(negatives: NegativesConfig, dataset: Dataset) -> None:
    negatives.check_catalogue(int((dataset.train_counts > 0).sum()))
    if negatives.chosen.source == "dislikes" and dataset.dislikes is None:
        raise PalateError(
            "the dataset keeps no dislikes", "Prepare it with --min-rating and --disliked-at-most, from rated data."
        )


def _weights(run: Run) -> str:
    path = run.model_folder / "weights.safetensors"
    if not path.is_file():
        raise PalateError(f"{run.folder} has no weights", "Train it again.")
    return digest(path.read_bytes())
