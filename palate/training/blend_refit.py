"""A blend trained anew on all interactions: each part is, and the weights that validation chose stay."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.rankers.blend import PARTS, Blend
from palate.rankers.registry import RANKERS, load_recommender, save_recommender
from palate.rankers.trained import TrainedRanker
from palate.runs.run import Run
from palate.runs.start import run_to_train
from palate.runs.trained_on import record_logs
from palate.storage.files import read_json
from palate.storage.remote import find, recorded, takes_urls
from palate.training.blend import features_of, identity_of
from palate.training.refit import refit
from palate.training.refit_plan import plan_refit


@takes_urls("out")
def refit_blend(
    run: Run,
    dataset: Dataset,
    *,
    out: Path | str,
    dataset_path: Path | str | None = None,
    stores: list[str] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    warm_start: Path | str | None = None,
    seed: int | None = None,
    resume: bool = False,
) -> Run:
    """Train the parts of a blend on all interactions, as runs in ``OUT/parts``, and sum them with the same weights.

    Args:
        run: a finished blend.
        settings, stores: of the parts that are trained by gradient.
        warm_start: an earlier refit of the same blend, whose parts give these parts their weights.

    Raises:
        PalateError: the run of a part is gone, or :func:`palate.training.refit.refit` refuses it.
    """
    if not run.finished:
        raise run.unfinished()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise PalateError("a blend is refitted by one process", "Leave out torchrun, and --engine.")
    config = Blend.Config.parse(read_json(run.model_folder / "config.json")["config"], where=str(run.folder))
    named = zip(run.info["parts"], run.info["blend"]["parts"], strict=True)
    parts = [_part(run, facts["folder"]) for facts, weighed in named if weighed["weight"] > 0]
    neural = [issubclass(RANKERS[part.info["model"]], TrainedRanker) for part in parts]
    before = None if warm_start is None else _parts_of(Run.open(warm_start), parts)
    options: list[dict[str, Any]] = [
        {"settings": settings, "stores": stores, "warm_start": None if before is None else before[number]}
        if trained
        else {}
        for number, trained in enumerate(neural)
    ]
    for part, one in zip(parts, options, strict=True):  # before any work
        plan_refit(part, settings=one.get("settings"), warm_start=one.get("warm_start"))
    path = dataset_path if dataset_path is not None else dataset.folder
    identity = {
        "model": Blend.name,
        "seed": run.seed if seed is None else seed,
        "options": run.info["options"],
        "features": run.info["features"],
    }
    facts = {"refit": {"run": recorded(run.folder), "validation": run.info.get("best")}}
    with run_to_train(out, identity, dataset, dataset_path=path, resume=resume, facts=facts) as made:
        if made.finished:
            return made
        runs = [
            refit(part, dataset, out=Path(out) / PARTS / str(number), dataset_path=path, resume=True, **one)
            for number, (part, one) in enumerate(zip(parts, options, strict=True))
        ]
        model = Blend([load_recommender(one) for one in runs], config)
        save_recommender(made, model)
        weights = [one for one in run.info["blend"]["parts"] if one["weight"] > 0]
        return made.add(
            finished=True,
            parts=[identity_of(one) for one in runs],
            blend={"parts": [{**weight, "run": one.name} for weight, one in zip(weights, runs, strict=True)]},
            features=features_of(runs),
            describe=model.describe(),
            trained_on=record_logs(dataset, made, runs, whole=True),
        )


def _part(run: Run, folder: str) -> Run:
    found = find(folder)
    if found is None or not (found / "run.json").is_file():
        raise PalateError(f"{folder}, a part of {run.folder}, is not there any more", "Train it again, and blend anew.")
    return Run.open(found)


def _parts_of(warm: Run, parts: list[Run]) -> list[Path]:
    """The folders of an earlier refit's parts."""
    folders = [warm.folder / PARTS / str(number) for number in range(len(parts))]
    for folder, part in zip(folders, parts, strict=True):
        if not (folder / "run.json").is_file() or Run.open(folder).info["model"] != part.info["model"]:
            raise PalateError(f"{warm.folder} is no refit of the same blend", "Give last night's --refit of it.")
    return folders
