"""Align a trained ranker on preferences: the Python call behind ``palate align``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from palate.data.dataset import Dataset
from palate.errors import PalateError, suggest
from palate.features.hardness import Hardness
from palate.features.store import FeatureStore
from palate.files import digest
from palate.objectives import PREFERENCES, Batch, Preference
from palate.objectives.pools import NegativesConfig
from palate.rankers.packing import PackedBatch
from palate.rankers.registry import RANKERS, load_recommender
from palate.rankers.sequential import SequentialRanker
from palate.runs import Run
from palate.training.align_report import report_alignment
from palate.training.align_step import AlignConfig, AlignStep
from palate.training.fit import open_run, summary
from palate.training.logs import Row
from palate.training.loop import Trainer, start_workers
from palate.training.plan import Plan, Prepared, Settings, make_plan, prepare_model
from palate.training.prefixes import Prefixes
from palate.training.reference import CachedReference, Reference, ReplayedReference
from palate.training.workers import gather_over

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
# How many batches' pairs the hardness is fitted to.
_FIT_BATCHES = 16


@dataclass(frozen=True)
class Alignment:
    """What an alignment asks for beyond a ranker's training."""

    config: AlignConfig
    negatives: NegativesConfig
    preference: Preference | None
    options: dict[str, Any]


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
        negatives: see :class:`palate.objectives.pools.NegativesConfig`.
        seed: of the draws; by default the run's own.
        settings: by section: ``preference``, ``negatives``, ``align``, ``trainer``.
        reference: another run in place of ``run``, of the same model and catalogue.
        dataset: what the run was trained on; by default it is opened where the run met it.
        dataset_path: recorded in the new run.
        features: feature stores by modality; by default those of the dataset that the run was trained with.
        resume: continue an interrupted alignment; a finished one is returned as it is.
        on_epoch: called with each row of ``metrics.jsonl``.

    Raises:
        PalateError: the run is no trained ranker, another dataset, a pool that is too large, unknown names or options.
    """
    start = run if isinstance(run, Run) else Run.open(run)
    frozen = start if reference is None else reference if isinstance(reference, Run) else Run.open(reference)
    _check_runs(start, frozen)
    data, path = _open_data(start, dataset, dataset_path)
    seed = start.seed if seed is None else seed
    plan, alignment = _plan(start, objective, negatives, settings or {})
    stores = _open_features(start, data, path, features)
    assert plan.trainer is not None
    accelerator = start_workers(plan.trainer)
    identity = {
        "model": start.info["model"],
        "seed": seed,
        "options": {**plan.options, "alignment": alignment.options},
        "features": {name: store.describe() for name, store in stores.items()},
        "warm_start": None,
    }
    origin = {"run": str(start.folder.resolve()), "weights": _weights(start), "reference": _weights(frozen)}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        prepared = prepare_model(plan, data, stores, seed, start.folder)
        prepared = replace(prepared, data=replace(prepared.data, fixed=True))
        _check_pool(alignment, data)
        if accelerator.is_main_process:
            open_run(out, identity, data, path, resume, {"aligned_from": origin})
        accelerator.wait_for_everyone()
        aligned = Run.open(out)
        if aligned.info.get("finished"):
            return aligned
        facts = _train(plan, alignment, prepared, stores, data, frozen, aligned, accelerator, identity, on_epoch)
    return aligned.add(finished=True, **facts) if accelerator.is_main_process else aligned


def _check_runs(start: Run, reference: Run) -> None:
    for run in (start, reference):
        kind = RANKERS[run.info["model"]]
        if not (isinstance(kind, type) and issubclass(kind, SequentialRanker)):
            raise PalateError(
                f"{run.folder} is a {run.info['model']}, which is not trained by gradient: it cannot be aligned",
                "Align a run of sasrec or gru4rec.",
            )
        if not run.finished:
            raise PalateError(f"{run.folder} is not finished", "Finish it with `palate train ... --resume`.")
    if start.catalogue.fingerprint != reference.catalogue.fingerprint:
        raise PalateError(
            f"the reference {reference.folder} knows other items than {start.folder}",
            "Take a reference that was trained on the same dataset.",
        )
    if start.info["options"].get("settings", {}).get("ranker", {}).get("max_length") != reference.info["options"].get(
        "settings", {}
    ).get("ranker", {}).get("max_length"):
        raise PalateError(
            f"the reference {reference.folder} reads histories of another length", "Train both with one max_length."
        )


def _open_data(start: Run, dataset: Dataset | None, path: Path | str | None) -> tuple[Dataset, Path | None]:
    where = path if path is not None else start.info["dataset"].get("path")
    if dataset is None:
        if where is None:
            raise PalateError(f"{start.folder} does not say where its dataset lies", "Give --dataset.")
        if not Path(where).is_dir():
            raise PalateError(f"the dataset {where} is not there", "Give --dataset, or make it with `palate prepare`.")
        dataset = Dataset.load(where)
    if dataset.fingerprint != start.info["dataset"]["fingerprint"]:
        raise PalateError(
            f"{start.folder} was trained on other data ({start.info['dataset']['name']}, "
            f"{start.info['dataset']['fingerprint']}) than {dataset.name} ({dataset.fingerprint})",
            "Align on the dataset that the run was trained on; for new data train with --warm-start first.",
        )
    return dataset, None if where is None else Path(where)


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
        stores = [candidates[name]] if name in candidates else []
        # The store of the modality's own name first: most often that is the one.
        for folder in sorted(folders, key=lambda f: f.name != name):
            if stores:
                break
            store = FeatureStore.load(folder, dataset.catalogue)
            stores = [store] if store.fingerprint == facts["fingerprint"] else []
        if not stores or stores[0].fingerprint != facts["fingerprint"]:
            raise PalateError(
                f"the {name} features that {start.folder} was trained with ({facts['encoder']}, "
                f"{facts['fingerprint']}) are not there",
                "Encode the dataset as it was for that run.",
            )
        found[name] = stores[0]
    return found


def _plan(start: Run, objective: str, negatives: str, settings: Settings) -> tuple[Plan, Alignment]:
    for section in settings:
        if section not in SECTIONS:
            raise PalateError(f"unknown section '{section}' in the settings", suggest(section, SECTIONS))
    options = start.info["options"]
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
        kind = PREFERENCES[objective]
        config = kind.Config.parse(settings.get("preference", {}), where=f"settings [preference] of {objective}")
        preference = kind(config)
        told |= {
            "preference": config.model_dump(mode="json"),
            "negatives": negatives_config.model_dump(mode="json"),
        }
    elif settings.get("preference") or settings.get("negatives"):
        raise PalateError("--objective none has no pairs", "Leave out the settings of preference and negatives.")
    elif not align_config.cross_entropy:
        raise PalateError("nothing is minimised: --objective none without cross-entropy", "Raise align.cross_entropy.")
    return plan, Alignment(align_config, negatives_config, preference, told)


def _check_pool(alignment: Alignment, dataset: Dataset) -> None:
    if alignment.preference is None:
        return
    alignment.negatives.check_catalogue(int((dataset.train_counts > 0).sum()))
    if alignment.negatives.strategy == "disliked" and dataset.dislikes is None:
        raise PalateError(
            "the dataset keeps no dislikes", "Prepare it with --min-rating and --disliked-at-most, from rated data."
        )


def _weights(run: Run) -> str:
    path = run.model_folder / "weights.safetensors"
    if not path.is_file():
        raise PalateError(f"{run.folder} has no weights", "Train it again.")
    return digest(path.read_bytes())


def _train(
    plan: Plan,
    alignment: Alignment,
    prepared: Prepared,
    stores: Mapping[str, FeatureStore],
    dataset: Dataset,
    frozen: Run,
    aligned: Run,
    accelerator: Accelerator,
    identity: dict[str, Any],
    on_epoch: Callable[[Row], None] | None,
) -> dict[str, Any]:
    assert plan.trainer is not None
    assert plan.objective is not None
    preference = alignment.preference
    device = accelerator.device
    model = prepared.model.to(device)
    reference: Reference | None = None
    if preference is not None and preference.needs_reference:
        ranker = load_recommender(frozen, str(device))
        assert isinstance(ranker, SequentialRanker)
        shared = alignment.config.dropout == "shared"
        reference = ReplayedReference(ranker, model) if shared else CachedReference(ranker, prepared.data)
    counts = torch.from_numpy(dataset.train_counts).float()
    origin = aligned.info["aligned_from"]
    step = AlignStep(
        alignment.config,
        plan.objective,
        preference,
        alignment.negatives,
        Prefixes(prepared.data.sequences),
        counts,
        reference,
        dislikes=None if dataset.dislikes is None else Prefixes(dataset.dislikes),
        gather=gather_over(accelerator),
    )
    facts: dict[str, Any] = {}
    if preference is not None and preference.needs_hardness:
        step.hardness = _fit_hardness(step, preference, model, prepared, stores, counts)
        facts["hardness"] = step.hardness.quantiles()
    trainer = Trainer(
        model,
        step,
        prepared.data,
        dataset.train_counts,
        prepared.validation,
        plan.trainer,
        accelerator,
        aligned.folder,
        digest(json.dumps({**identity, "from": origin, "data": dataset.fingerprint}, sort_keys=True)),
        on_epoch,
        start=True,
    )
    rows = trainer.run()
    facts |= summary(rows, plan.trainer.metric, prepared.model)
    if accelerator.is_main_process and preference is not None:
        facts["alignment"] = report_alignment(aligned.folder, rows, step, dataset, load_recommender(aligned), prepared)
    return facts


@torch.no_grad()
def _fit_hardness(
    step: AlignStep,
    preference: Preference,
    model: SequentialRanker,
    prepared: Prepared,
    stores: Mapping[str, FeatureStore],
    counts: torch.Tensor,
) -> Hardness:
    """Hardness over the pairs that the start of the alignment draws."""
    device = model.device
    generator = torch.Generator(device).manual_seed(prepared.data.seed)
    counts = counts.to(device)
    classes = torch.nonzero(counts).squeeze(1)
    chosen, rejected, valid = [], [], []
    for number, windows in enumerate(prepared.data.batches(0)):
        if number == _FIT_BATCHES:
            break
        packed = PackedBatch.of(windows.inputs, prepared.data.max_length, device)
        batch = Batch(torch.from_numpy(windows.targets).to(device), classes, counts, None, generator)
        drawn = step.draw(model, packed, batch, windows.places)
        if drawn is not None:
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
        neighbours=config.neighbours,
        spread=config.spread,
        seed=prepared.data.seed,
        device=device,
    )
