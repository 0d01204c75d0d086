"""Search for good settings: the Python call behind ``palate tune``. Looks at validation users only.

A study is a folder::

    OUT/
      study.json         recipe, dataset, all trials, the best one; written after every trial
      trials/0007.json   what a trial showed
      trials/0007/       its run
      trials.csv, best.toml, trials.png
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from palate.data.dataset import Cases, Dataset
from palate.errors import PalateError
from palate.experiments.marks import clear_other, write_mark
from palate.experiments.search import (
    Pruning,
    SettingsSearch,
    Trial,
    TrialLog,
    best_of,
    import_optuna,
    key_of,
    load_trials,
)
from palate.experiments.tune_recipe import TuneRecipe
from palate.experiments.validated import validated
from palate.features.fields import FIELDS, make_vocabulary
from palate.features.store import FeatureStore
from palate.runs.run import Run
from palate.storage.files import read_json, write_json
from palate.storage.lock import alone
from palate.storage.remote import takes_urls
from palate.storage.small_files import json_rows
from palate.training.config import TrainerConfig
from palate.training.fit import train as fit
from palate.training.validation import Validation, parse_metric

FORMAT = 2
# When the first N trials all fail, the rest will too.
_HOPELESS = 3
Train = Callable[..., Run]


class ValidationOnly(Dataset):
    """A dataset that does not hand out its test cases, so that no choice can be made by them."""

    @classmethod
    def of(cls, dataset: Dataset) -> ValidationOnly:
        return cls(**{field.name: getattr(dataset, field.name) for field in fields(dataset)})

    def cases(self, split: Literal["valid", "test"], times: bool = True) -> Cases:
        if split != "valid":
            raise PalateError("tuning may not look at the test split", "Evaluate the best settings afterwards.")
        return super().cases(split, times)


@dataclass(frozen=True)
class Study:
    """What a search found.

    Attributes:
        metric: label of the validation metric.
        trials: one row per trial: ``trial`` (the number of its run, from 0), ``state`` (complete, pruned or failed),
            ``value``, ``epoch``, ``run``, ``error`` and the ``params``.
        best: the row of the best complete trial, or None.
    """

    folder: Path
    metric: str
    trials: list[dict[str, Any]]
    best: dict[str, Any] | None


class _Pruned(Exception):
    """Ends a trial's training from within."""


@takes_urls("out")
def tune(
    dataset: Dataset | Path | str,
    recipe: TuneRecipe,
    *,
    trials: int,
    out: Path | str,
    seed: int = 0,
    features: Mapping[str, FeatureStore] | None = None,
    dataset_path: Path | str | None = None,
    where: str = "the recipe",
    train: Train = fit,
    on_trial: Callable[[dict[str, Any]], None] | None = None,
) -> Study:
    """Train ``trials`` times with settings that an optimiser proposes; the validation of the kept weights counts.

    Where there are no more than ``trials`` combinations, each is tried once. Called again on the same folder, it goes
    on until there are ``trials`` of them in all; a trial that was interrupted is taken up where it stopped. An
    interrupted and resumed search proposes what an unbroken one does.

    Args:
        dataset: it, or its folder.
        seed: of the proposals and of every training.
        train: what trains one trial; by default :func:`palate.training.fit.train`.
        on_trial: called with each new row of :attr:`Study.trials`.

    Raises:
        PalateError: anything wrong with the recipe, before the first trial; or a folder of another search.
    """
    dataset = Dataset.opened(dataset)
    recipe.check(where)
    label = parse_metric(recipe.metric)[0]
    Validation(dataset, recipe.metric, recipe.exclude_seen)  # refuses a dataset without a validation split
    lacking = [name for name in recipe.modalities if name not in ("id", FIELDS) and name not in (features or {})]
    if lacking:
        raise PalateError(f"there are no features for '{lacking[0]}'", "Make them with `palate encode`.")
    if FIELDS in recipe.modalities:
        make_vocabulary(dataset.catalogue, recipe.catalogue_fields)
    folder = Path(out)
    facts = {
        "format": FORMAT,
        "recipe": recipe.model_dump(mode="json", exclude={"trials", "seed"}),
        "metric": label,
        "seed": seed,
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "features": {name: store.fingerprint for name, store in (features or {}).items()},
    }
    key = key_of(facts)
    most = max(trials, len(load_trials(folder / "trials")))  # what is there stays, where fewer are requested
    search = SettingsSearch(recipe.search, most, seed, random=recipe.sampler == "random", startup=recipe.startup_trials)
    pruning = _pruning(recipe, search)
    # Two searches in one folder would take each other's trials for interrupted ones.
    with alone(folder, f"another search is at work in {folder}", "Wait for it, or choose another --out."):
        _refuse_other(folder, facts)
        log = TrialLog(folder / "trials", search)
        runner = _TrialRunner(
            ValidationOnly.of(dataset), recipe, folder, pruning, key, seed, features, dataset_path, train
        )
        while batch := log.ask():
            for number, params in batch:
                stored = log.find(number, key)
                log.done.append(stored or log.save(runner.trial(number, params, log.done)))
                if stored is None:
                    study = _study(folder, label, log.done)
                    write_json(folder / "study.json", {**facts, "best": study.best, "trials": study.trials})
                    if on_trial:
                        on_trial(study.trials[number])
    return _study(folder, label, log.done)


def _refuse_other(folder: Path, facts: Mapping[str, Any]) -> None:
    """Refuse a folder whose search has another recipe, seed or dataset."""
    path = folder / "study.json"
    known = read_json(path) if path.is_file() else {}
    if not known:
        return
    if known.get("format") != FORMAT:
        raise PalateError(
            f"{folder} holds a search that another version of Palate made",
            "Choose another --out; its best.toml is good.",
        )
    if any(known.get(name) != json.loads(json.dumps(value)) for name, value in facts.items()):
        raise PalateError(
            f"{folder} holds a search with another recipe, seed or dataset", "Choose another --out, or remove it."
        )


def _study(folder: Path, label: str, done: Sequence[Trial]) -> Study:
    rows = [
        {
            "trial": trial.number,
            "state": trial.state,
            "value": trial.value,
            "epoch": trial.epoch,
            "run": f"trials/{trial.number:04d}",
            "error": trial.error,
            "params": trial.params,
        }
        for trial in done
    ]
    best = best_of(done)
    return Study(folder, label, rows, next((row for row in rows if best and row["trial"] == best.number), None))


def _pruning(recipe: TuneRecipe, search: SettingsSearch) -> Pruning | None:
    """None where every trial is trained to its end."""
    if recipe.pruner == "none" or not recipe.neural:
        return None
    pruners = import_optuna("stopping trials early").pruners
    if recipe.pruner == "median":
        pruner = pruners.MedianPruner(n_startup_trials=recipe.startup_trials, n_warmup_steps=recipe.prune_after)
    else:
        most = recipe.epochs or TrainerConfig().epochs
        pruner = pruners.HyperbandPruner(min_resource=max(1, min(recipe.prune_after, most)), max_resource=most)
    return Pruning(search, pruner)


@dataclass(frozen=True)
class _TrialRunner:
    """Trains the trials of a study, one after the other, in this process.

    Attributes:
        pruning: None where every trial is trained to its end.
        key: of the study.
    """

    dataset: Dataset
    recipe: TuneRecipe
    folder: Path
    pruning: Pruning | None
    key: str
    seed: int
    features: Mapping[str, FeatureStore] | None
    dataset_path: Path | str | None
    train: Train

    def trial(self, number: int, params: dict[str, Any], done: Sequence[Trial]) -> Trial:
        """Train one trial, or go on with it where it was interrupted.

        Raises:
            PalateError: this was the last of the first trials, and all of them failed.
        """
        label, started = parse_metric(self.recipe.metric)[0], time.monotonic()
        curve: dict[float, float] = {}
        best_so_far: dict[str, float | None] = {}

        def watch(row: Mapping[str, Any]) -> None:
            if label not in row:
                return
            epoch, value = float(row["epoch"]), float(row[label])
            curve[epoch] = value if math.isfinite(value) else -math.inf
            if self.pruning is None or not epoch.is_integer():  # pruners count epochs; a part of one has its turn later
                return
            # A trial is judged by its best validation, so a bad last one may not end it.
            top = max(curve.values())
            best_so_far[str(int(epoch))] = top if math.isfinite(top) else None
            if self.pruning.prune(int(epoch), top):
                raise _Pruned

        if self.pruning is not None:
            self.pruning.begin(params, done)
        value, error, pruned, epoch = None, None, False, None
        try:
            run = self._train(self.folder / "trials" / f"{number:04d}", params, watch)
            if curve:
                epoch = self._kept(params, curve)
                if not math.isfinite(curve[epoch]):
                    raise PalateError(f"{label} was no number", "The training diverged.")
                value = curve[epoch]
            else:  # a model without epochs is measured once, when it is done
                _, value = validated(run, self.dataset, self.recipe.metric, exclude_seen=self.recipe.exclude_seen)
        except _Pruned:
            pruned = True
        except PalateError as refused:  # settings that do not go together
            error = str(refused)
            if number == _HOPELESS - 1 and all(trial.state == "failed" for trial in done):
                raise
        epoch = max(curve, default=None) if value is None else epoch
        epoch = int(epoch) if epoch is not None and epoch.is_integer() else epoch
        seconds = round(time.monotonic() - started, 3)
        return Trial(number, params, value, label, seconds, error, self.key, epoch, pruned, best_so_far)

    def _kept(self, params: dict[str, Any], curve: Mapping[float, float]) -> float:
        """The epoch whose weights the trial's run holds: the best, or the last where ``trainer.keep`` says so."""
        if self.recipe.settings_of(params).get("trainer", {}).get("keep") == "last":
            return max(curve)
        return max(curve, key=lambda epoch: (curve[epoch], -epoch))

    def _train(self, folder: Path, params: dict[str, Any], watch: Callable[[Mapping[str, Any]], None]) -> Run:
        key = key_of(self.key, params)
        clear_other(folder, key)
        resume = (folder / "run.json").is_file()
        if not resume:
            write_mark(folder, key)
        # A run that was killed has the curve up to there on disk; the callback only hears of what follows.
        log = folder / "metrics.jsonl"
        for row in json_rows(log) if log.is_file() else ():
            watch(row)
        return self.train(
            self.dataset,
            model=self.recipe.model,
            out=folder,
            seed=self.seed,
            modalities=tuple(self.recipe.modalities),
            missing=self.recipe.missing,
            objective=self.recipe.objective,
            settings=self.recipe.settings_of(params),
            features=dict(self.features or {}),
            dataset_path=self.dataset_path,
            resume=resume,
            on_epoch=watch,
        )
