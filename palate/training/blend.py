"""Blend trained runs into one: the Python call behind ``palate blend``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from palate.data.dataset import Dataset
from palate.device import parse_device
from palate.errors import PalateError, suggest
from palate.evaluation.groups import recipe
from palate.rankers.blend import Blend, BlendConfig, check_part
from palate.rankers.registry import RANKERS, load_recommender, save_recommender
from palate.recommender import Recommender
from palate.runs.dataset import dataset_of
from palate.runs.run import Run
from palate.runs.start import run_to_train
from palate.runs.trained_on import record_logs
from palate.storage.files import digest, file_digest
from palate.storage.remote import recorded, takes_urls
from palate.training.blend_weights import Floats, ScoredCases, fit_likelihood, search_ndcg
from palate.training.validation import Validation

Fit = Literal["ndcg", "likelihood"]
FITS: tuple[Fit, ...] = ("ndcg", "likelihood")
METRIC = "NDCG@10"
# Validation users that weights are chosen on, at most: a few weights need no more.
USERS = 10_000


@takes_urls("out")
def blend(
    runs: Sequence[Run | Path | str],
    *,
    out: Path | str,
    fit: Fit = "ndcg",
    users: int = USERS,
    exclude_seen: bool = True,
    dataset: Path | None = None,
    device: str = "cpu",
    seed: int = 0,
    resume: bool = False,
) -> Run:
    """Sum the scores of several finished runs, with weights chosen on validation users, and return that as a run.

    Args:
        runs: at least two, of the same data; any rankers of the whole catalogue.
        out: the run folder; it must not hold a run yet, unless ``resume``.
        fit: ``ndcg`` searches weights of high NDCG@10, ``likelihood`` those that make the targets most likely.
        users: validation users at most, drawn by ``seed``; 0 means all.
        exclude_seen: leave out the history, as a shop does, or not.
        dataset: where the dataset is stored; by default where the first run met it.
        device: where neural parts score: auto, cpu, cuda, cuda:N or mps.
        seed: of the sample of users; tables know repetitions of one blend apart by it.
        resume: return the run in ``out`` where it is finished, make it where it is not.

    Raises:
        PalateError: fewer than two runs, one that is not finished, of other data, a blend, or too slow for the whole
            catalogue; a dataset that is gone; an existing run: before any work.
    """
    started = time.perf_counter()
    check_fit(fit)
    if users < 0:
        raise PalateError(f"weights cannot be chosen on {users} users", "Give a number of users, or 0 for all.")
    device = parse_device(device)
    opened = _open(runs)
    if (Path(out) / "run.json").exists() and not resume:
        raise PalateError(f"{out} holds a run already", "Choose another --out.")
    data = dataset_of(opened[0], path=dataset)
    validation = Validation(data, METRIC, exclude_seen, users, seed)
    for one in opened:
        validation.leave_out(data, one)
    identity = {
        "model": Blend.name,
        "seed": seed,
        "options": blend_options(opened, fit, users, exclude_seen),
        "features": features_of(opened),
    }
    facts: dict[str, Any] = {"parts": [identity_of(run) for run in opened]}
    with run_to_train(out, identity, data, resume=resume, facts=facts) as run:
        if run.finished:
            return run
        parts = [load_recommender(one, device=device) for one in opened]
        facts = _fit(run, opened, parts, data, validation, fit)
        facts["trained_on"] = record_logs(data, run, opened)
        return run.add(finished=True, seconds=round(time.perf_counter() - started, 3), metric=METRIC, **facts)


def check_fit(fit: str) -> None:
    """Refuse a name that is no way of choosing weights."""
    if fit not in FITS:
        raise PalateError(f"weights cannot be fitted by '{fit}'", suggest(fit, FITS))


def blend_options(runs: Sequence[Run], fit: str, users: int, exclude_seen: bool) -> dict[str, Any]:
    """What repetitions of one blend have in common, whatever the seeds of their parts."""
    parts = [{"model": run.info["model"], "recipe": recipe(run)} for run in runs]
    return {"parts": parts, "fit": fit, "users": users, "exclude_seen": exclude_seen}


def _open(runs: Sequence[Run | Path | str]) -> list[Run]:
    """The runs, each checked as far as its folder tells."""
    if len(runs) < 2:
        raise PalateError(f"a blend of {len(runs)} run is none", "Give two runs or more.")
    opened: list[Run] = []
    for one in runs:
        run = Run.opened(one)
        if any(run.folder.resolve() == other.folder.resolve() for other in opened):
            raise PalateError(f"{run.folder} is named twice", "Name each run once.")
        if not run.finished:
            raise run.unfinished()
        if run.info["model"] == Blend.name:
            names = " ".join(str(part.get("folder")) for part in run.info.get("parts") or ())
            raise PalateError(f"{run.folder} is a blend already", f"Name its parts in its place: {names}.")
        try:
            check_part(RANKERS[run.info["model"]])
        except PalateError as error:
            raise PalateError(f"{run.folder}: {error.message}", error.remedy) from None
        if opened and run.info["dataset"]["fingerprint"] != opened[0].info["dataset"]["fingerprint"]:
            raise PalateError(
                f"{run.folder} was trained on other data than {opened[0].folder}", "Blend runs of one dataset."
            )
        opened.append(run)
    return opened


def identity_of(run: Run) -> dict[str, Any]:
    """Which run a part is, and the digest of its model: retrained in place, it is another part."""
    files = sorted(path for path in run.model_folder.rglob("*") if path.is_file())
    names = [word for path in files for word in (path.relative_to(run.model_folder).as_posix(), file_digest(path))]
    return {
        "folder": recorded(run.folder),
        "model": run.info["model"],
        "seed": run.seed,
        "commit": run.info["environment"].get("commit"),
        "recipe": recipe(run),
        "digest": digest(*names),
    }


def features_of(runs: Sequence[Run]) -> dict[str, Any]:
    """The features of all parts by modality; other ones of a modality that is there already get a number behind."""
    found: dict[str, Any] = {}
    for run in runs:
        for name, facts in (run.info.get("features") or {}).items():
            free, number = name, 2
            while free in found and found[free] != facts:
                free, number = f"{name}-{number}", number + 1
            found[free] = facts
    return found


def _fit(
    run: Run,
    runs: Sequence[Run],
    parts: Sequence[Recommender],
    data: Dataset,
    validation: Validation,
    fit: Fit,
) -> dict[str, Any]:
    """Choose the weights, write the model, and return what ``run.json`` records of it."""
    if data.folder is not None:
        for part in parts:
            part.set_data_folder(data.folder)
    for part in parts:
        part.check_ready(validation.cases.histories)
    scored = ScoredCases(parts, validation.cases, validation.exclude_seen)
    weights, likelihood = fit_likelihood(scored)
    if fit == "ndcg":
        weights, _ = search_ndcg(scored, weights)
    used = [row for row, weight in enumerate(weights) if weight > 0]
    config = BlendConfig.model_validate(
        {
            "parts": [
                {"kind": runs[row].info["model"], "weight": float(weights[row]), "scale": float(scored.scales[row])}
                for row in used
            ]
        }
    )
    model = Blend([parts[row] for row in used], config)
    facts = {
        "best": validation(model),
        "blend": {
            "users": len(scored),
            "parts": [
                {"run": one.name, "model": one.info["model"], **_weight(weights, row), "validation": validation(part)}
                for row, (one, part) in enumerate(zip(runs, parts, strict=True))
            ],
            **({"log_likelihood": likelihood} if fit == "likelihood" else {}),
        },
        "describe": model.describe(),
    }
    save_recommender(run, model)
    return facts


def _weight(weights: Floats, row: int) -> dict[str, float]:
    return {"weight": float(weights[row]), "share": float(weights[row] / weights.sum())}
