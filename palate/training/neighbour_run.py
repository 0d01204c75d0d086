"""The last step of a training with neighbours: their lists are made, their weights fitted, and the model saved anew."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from palate.console import print_note
from palate.data.dataset import Dataset
from palate.features.neighbour_store import NeighbourList
from palate.features.neighbours import CO_OCCURRENCE, neighbour_list, open_source
from palate.progress import working
from palate.rankers.neighbours import Floats, NeighbourScores
from palate.rankers.registry import load_recommender, save_recommender
from palate.rankers.sequential import SequentialRanker
from palate.runs.run import Run
from palate.storage.remote import follow
from palate.training.config import NeighboursConfig, TrainerConfig
from palate.training.neighbour_fit import fit_weights
from palate.training.validation import Validation

# What the likeliest weights are multiplied by, whichever ranks best on validation; 0 leaves the neighbours out.
_STRENGTHS = (1.0, 0.7, 0.5, 0.3, 1.4, 2.0)


def add_neighbours(
    run: Run,
    dataset: Dataset,
    config: NeighboursConfig,
    trainer: TrainerConfig,
    seed: int,
    learnt: Run | None = None,
) -> dict[str, Any]:
    """Fit the neighbours of a run's best model on validation, and save the model with them.

    A killed call is made again from the model of the best epoch: what an earlier call has added is taken off first.

    Args:
        learnt: the run that the model comes from, if it is another one: users whose validation targets it was trained
            on are left out.

    Returns:
        What ``run.json`` records: ``describe`` and, under ``neighbours``, the validation before and after, the
        likelihoods, seconds, and where each list comes from.
    """
    started = time.perf_counter()
    path = follow(run.info["dataset"]["path"]) if run.info["dataset"]["path"] else dataset.folder
    lists = [neighbour_list(dataset, name, dataset_path=path, keep=config.keep) for name in config.sources]
    model = load_recommender(run)
    assert isinstance(model, SequentialRanker)
    model.neighbours = None
    validation = Validation(dataset, trainer.metric, trainer.exclude_seen, trainer.validate_users, seed)
    validation.leave_out(dataset, run if learnt is None else learnt)
    before = validation(model)
    with working(f"Fitting the weights of {', '.join(config.sources)} on validation users"):
        fitted = fit_weights(
            model,
            validation.cases,
            lists,
            config.lags,
            exclude_seen=trainer.exclude_seen,
            users=config.users,
            seed=seed,
        )
        strength, after = _strongest(model, NeighbourScores(lists, fitted.weights), validation, before)
    save_recommender(run, model)
    return {
        "describe": model.describe(),
        "neighbours": {
            "before": before,
            "after": after,
            "loss": [round(fitted.before, 6), round(fitted.after, 6)],
            "scale": round(fitted.scale, 4),
            "strength": strength,
            "users": fitted.users,
            "seconds": round(time.perf_counter() - started, 3),
            **_origins(dataset, path, lists),
        },
    }


def renew_neighbours(run: Run, dataset: Dataset, config: NeighboursConfig, weights: Floats) -> dict[str, Any]:
    """Give a run's model neighbours by this dataset's training log, at weights that another run's validation chose.

    Args:
        weights: float32 ``[sources, lags]``, the sources in the order of ``config``.

    Returns:
        What ``run.json`` records, as :func:`add_neighbours` without the validation.
    """
    started = time.perf_counter()
    path = follow(run.info["dataset"]["path"]) if run.info["dataset"]["path"] else dataset.folder
    lists = [neighbour_list(dataset, name, dataset_path=path, keep=config.keep) for name in config.sources]
    model = load_recommender(run)
    assert isinstance(model, SequentialRanker)
    model.neighbours = NeighbourScores(lists, weights)
    save_recommender(run, model)
    seconds = round(time.perf_counter() - started, 3)
    return {"describe": model.describe(), "neighbours": {"seconds": seconds, **_origins(dataset, path, lists)}}


def _origins(dataset: Dataset, path: Path | None, lists: Sequence[NeighbourList]) -> dict[str, Any]:
    """Where each list comes from."""
    stores = {one.source: open_source(dataset, one.source, path) for one in lists if one.source != CO_OCCURRENCE}
    return {
        "lists": {one.source: one.fingerprint for one in lists},
        "stores": {name: store.describe() for name, store in stores.items() if store is not None},
    }


def _strongest(
    model: SequentialRanker, neighbours: NeighbourScores, validation: Validation, before: dict[str, float]
) -> tuple[float, dict[str, float]]:
    """Give the model its neighbours at the strength that validates best, or none of them; returns it and its metrics.

    Likelihood and ranking mostly agree (docs/experiments.md); where they do not, as in a ranker that was hardly
    trained, the metric that users look at decides.
    """
    metric = next(iter(before))
    best, found = (0.0, before), None
    for strength in _STRENGTHS:
        model.neighbours = NeighbourScores(neighbours.lists, neighbours.weights * strength)
        metrics = validation(model)
        if metrics[metric] > best[1][metric]:
            best, found = (strength, metrics), model.neighbours
    model.neighbours = found
    if found is None:
        print_note("Neighbours do not help on validation: they are left out.")
    return best
