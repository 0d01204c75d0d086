"""What is trained anew on all interactions: the settings of a run, for as long as its validation chose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from palate.data.dataset import Dataset
from palate.data.streamed import StreamedDataset
from palate.errors import PalateError
from palate.features.fields import FIELDS
from palate.rankers.fitted import FittedRanker
from palate.rankers.neighbours import Floats, NeighbourScores
from palate.rankers.registry import RANKERS
from palate.rankers.trained import TrainedRanker
from palate.runs.run import Run
from palate.storage.remote import recorded

# Settings of the trainer that shape nothing but how the work is done.
FREE = ("epochs", "device", "checkpoint_minutes", "tensorboard")


@dataclass(frozen=True)
class Refit:
    """A run whose recipe is trained anew on all interactions.

    Attributes:
        options: of :func:`palate.training.fit.train`: model, modalities, missing, objective, neighbours, settings.
        epochs: how many are trained, perhaps with a part of one; None for models that are counted.
        neighbours: float32 ``[sources, lags]``, the weights that validation chose; None: the run adds none.
        facts: what ``run.json`` records of it.
    """

    run: Run
    options: dict[str, Any]
    epochs: float | None
    neighbours: Floats | None
    facts: dict[str, Any]


def everything_trains(dataset: Dataset) -> Dataset:
    """The dataset with every interaction in its training split."""
    if isinstance(dataset, StreamedDataset):
        raise PalateError(
            "a refit holds all interactions in memory", "Refit a run that was trained without trainer.stream."
        )
    return replace(dataset, parts=np.zeros_like(dataset.parts))


def plan_refit(
    run: Run, *, settings: Mapping[str, Mapping[str, Any]] | None = None, warm_start: Path | str | None = None
) -> Refit:
    """Read what a run was trained with.

    Args:
        settings: of the trainer only: ``epochs`` in place of what validation chose, and :data:`FREE`.
        warm_start: where the weights will come from.

    Raises:
        PalateError: a run that is not finished, that is no single ranker, whose number of epochs says nothing about
            another start, or settings that contradict it.
    """
    info, given = run.info, {name: dict(values) for name, values in (settings or {}).items()}
    kind = RANKERS[info["model"]]
    neural = issubclass(kind, TrainedRanker)
    _check_run(run, neural, issubclass(kind, FittedRanker))
    trainer = given.pop("trainer", {})
    wrong = [*(f"[{name}]" for name in given), *(f"trainer.{name}" for name in trainer if name not in FREE)]
    if wrong:
        raise PalateError(
            f"{wrong[0]} contradicts --refit: the settings are those of {run.folder}",
            "Leave it out, or train and validate with it first.",
        )
    if trainer and not neural:
        raise PalateError(f"{info['model']} is not trained by gradient: it has no epochs", "Leave its settings out.")
    options = info["options"]
    sections = {name: dict(values) for name, values in options.get("settings", {}).items()}
    for key in ("modalities", "missing") if neural else ():
        sections["ranker"].pop(key, None)
    sources = tuple(sections.get("neighbours", {}).pop("sources", ()))
    facts: dict[str, Any] = {"run": recorded(run.folder), "validation": info.get("best")}
    epochs, weights = None, None
    if neural:
        epochs = _epochs(run, trainer.get("epochs"), warm_start)
        facts["epochs"] = epochs
        sections["trainer"] |= trainer
        found = NeighbourScores.load(run.model_folder, len(run.catalogue)) if sources else None
        if found is None:  # validation had no use for them
            sections.pop("neighbours", None)
            sources = ()
        else:
            weights = found.weights
    call = {
        "model": info["model"],
        **{name: options[name] for name in ("modalities", "missing", "objective")},
        "neighbours": sources,
        "settings": sections,
    }
    return Refit(run, call, epochs, weights, {"refit": facts})


def _check_run(run: Run, neural: bool, fitted: bool) -> None:
    if not run.finished:
        raise run.unfinished()
    if "alignment" in run.info["options"]:
        raise PalateError(
            f"{run.folder} is aligned, and an alignment is not made anew without a validation",
            "Refit the run that it was aligned from.",
        )
    if not neural and not fitted:
        raise PalateError(
            f"{run.folder} is a {run.info['model']}, which is not trained by `palate train`", "Refit a ranker."
        )


def _epochs(run: Run, requested: int | None, warm_start: Path | str | None) -> float:
    """How many epochs to train: by request, or as many as the validation of this run, or of its own, chose."""
    if requested is not None:
        return float(requested)
    before = run.info.get("refit", {}).get("epochs")
    chosen = before if before is not None else (run.info.get("best") or {}).get("epoch")
    if chosen is None:
        raise PalateError(f"{run.folder / 'run.json'} does not say which epoch was best", "Give --epochs.")
    if warm_start is not None and run.info.get("warm_start") is None:
        raise PalateError(
            f"{run.folder} chose {chosen:g} epochs from new weights, which says nothing about a warm start",
            "Give --epochs: 1 to 3 are usual (docs/training.md).",
        )
    return float(chosen)


def check_encoders(run: Run, features: Mapping[str, Any]) -> None:
    """Refuse feature stores that were made by another encoder than those the run's settings were chosen with.

    Args:
        features: feature stores by modality.
    """
    for name, store in features.items():
        before, now = run.info["features"].get(name), store.describe()
        if name == FIELDS or before is None:
            continue
        for key in ("encoder_fingerprint", "content"):
            if before.get(key) != now.get(key):
                raise PalateError(
                    f"the {name} features were made by {now.get('encoder')} ({key} {now.get(key)}), those of "
                    f"{run.folder} by {before.get('encoder')} ({key} {before.get(key)})",
                    f"Encode the dataset alike, or name the store: --store {name}=NAME.",
                )
