"""Search for good settings: the Python call behind ``palate tune``. Looks at validation users only.

A study is a folder::

    OUT/
      study.db       optuna's storage (SQLite): trials, parameters, curves
      study.json     recipe, dataset, best trial; written after every trial
      trials/0007/   the run folder of each trial
      trials.csv, best.toml, trials.png
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from palate.data.dataset import Cases, Dataset
from palate.errors import PalateError
from palate.experiments.search_space import Choices, TuneRecipe
from palate.features.fields import FIELDS, make_vocabulary
from palate.features.store import FeatureStore
from palate.rankers.registry import load_recommender
from palate.runs.run import Run
from palate.storage.files import digest, write_json
from palate.storage.lock import alone
from palate.storage.small_files import json_rows
from palate.training.config import TrainerConfig
from palate.training.fit import train as fit
from palate.training.validation import Validation, parse_metric

FORMAT = 1
# When the first so many trials all fail, the rest will too.
_HOPELESS = 3
Train = Callable[..., Run]


class ValidationOnly(Dataset):
    """A dataset that does not hand out its test cases, so that no choice can be made by them."""

    @classmethod
    def of(cls, dataset: Dataset) -> ValidationOnly:
        return cls(**{field.name: getattr(dataset, field.name) for field in fields(dataset)})

    def cases(self, split: Literal["valid", "test"]) -> Cases:
        if split != "valid":
            raise PalateError("tuning may not look at the test split", "Evaluate the best settings afterwards.")
        return super().cases(split)


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


def tune(
    dataset: Dataset,
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
    """Train ``trials`` times with settings that an optimiser proposes; the best validation epoch of each counts.

    Called again on the same folder, it goes on until there are ``trials`` of them in all; a trial that was
    interrupted is taken up where it stopped. An interrupted and resumed search proposes what an unbroken one does.

    Args:
        seed: of the proposals and of every training.
        train: what trains one trial; by default :func:`palate.training.fit.train`.
        on_trial: called with each finished row of :attr:`Study.trials`.

    Raises:
        PalateError: anything wrong with the recipe, before the first trial; or a folder of another search.
    """
    optuna = _optuna()
    recipe.check(where)
    label = parse_metric(recipe.metric)[0]
    Validation(dataset, recipe.metric, recipe.exclude_seen)  # refuses a dataset without a validation split
    lacking = [name for name in recipe.modalities if name not in ("id", FIELDS) and name not in (features or {})]
    if lacking:
        raise PalateError(f"there are no features for '{lacking[0]}'", "Make them with `palate encode`.")
    if FIELDS in recipe.modalities:
        make_vocabulary(dataset.catalogue, recipe.settings.get("ranker", {}).get("fields"))
    folder = Path(out)
    told = {
        "format": FORMAT,
        "recipe": recipe.model_dump(mode="json", exclude={"trials", "seed"}),
        "metric": label,
        "seed": seed,
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "features": {name: store.fingerprint for name, store in (features or {}).items()},
    }
    # Two searches in one folder would take each other's trials for interrupted ones.
    with alone(folder, f"another search is at work in {folder}", "Wait for it, or choose another --out."):
        study = _open(optuna, folder, recipe, told)
        search = _Search(optuna, study, recipe, ValidationOnly.of(dataset), folder, seed, features, dataset_path, train)
        search.take_up_interrupted()
        while (done := len(search.finished())) < trials:
            search.one_trial(done)
            found = search.summary(label)
            write_json(folder / "study.json", {**told, "best": found.best, "trials": found.trials})
            if on_trial:
                on_trial(found.trials[done])
    return search.summary(label)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise PalateError("tuning needs optuna", "Install it: pip install 'palate[tune]'.") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _open(optuna: Any, folder: Path, recipe: TuneRecipe, told: dict[str, Any]) -> Any:
    """The study of the folder, new or continued; one of another recipe, seed or dataset is refused."""
    identity = digest(json.dumps(told, sort_keys=True))
    database = str((folder / "study.db").resolve())
    study = optuna.create_study(
        storage=import_module("sqlalchemy").URL.create("sqlite", database=database).render_as_string(),
        study_name="palate",
        direction="maximize",
        load_if_exists=True,
        pruner=_pruner(optuna, recipe),
    )
    known = study.user_attrs.get("identity")
    if known is None:
        study.set_user_attr("identity", identity)
    elif known != identity:
        raise PalateError(
            f"{folder} holds a search with another recipe, seed or dataset", "Choose another --out, or remove it."
        )
    return study


def _pruner(optuna: Any, recipe: TuneRecipe) -> Any:
    if recipe.pruner == "none" or not recipe.neural:
        return optuna.pruners.NopPruner()
    if recipe.pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=recipe.startup_trials, n_warmup_steps=recipe.prune_after)
    most = recipe.epochs or TrainerConfig().epochs
    return optuna.pruners.HyperbandPruner(min_resource=max(1, min(recipe.prune_after, most)), max_resource=most)


class _Search:
    """One process's work on a study."""

    def __init__(
        self,
        optuna: Any,
        study: Any,
        recipe: TuneRecipe,
        dataset: Dataset,
        folder: Path,
        seed: int,
        features: Mapping[str, FeatureStore] | None,
        dataset_path: Path | str | None,
        train: Train,
    ) -> None:
        self.optuna, self.study, self.recipe, self.dataset = optuna, study, recipe, dataset
        self.folder, self.seed, self.features, self.dataset_path, self.train = (
            folder,
            seed,
            features,
            dataset_path,
            train,
        )
        self.state = optuna.trial.TrialState
        self.label = parse_metric(recipe.metric)[0]

    def finished(self) -> list[Any]:
        """Trials that count, in the order of their numbers; an interrupted one does not."""
        given_up = self._interrupted()
        trials = self.study.get_trials(deepcopy=False)
        return [t for t in trials if t.state.is_finished() and t.number not in given_up]

    def take_up_interrupted(self) -> None:
        """Give a trial that no process works on any more back to the queue, with its run folder."""
        given_up = self._interrupted()
        for trial in self.study.get_trials(deepcopy=False, states=(self.state.RUNNING,)):
            if trial.number not in given_up:
                given_up.append(trial.number)
                self.study.set_user_attr("interrupted", given_up)
                if "run" in trial.user_attrs and len(trial.params) == len(self.recipe.search):
                    self.study.enqueue_trial(trial.params, user_attrs={"run": trial.user_attrs["run"]})
            self.study.tell(trial.number, state=self.state.FAIL)

    def _interrupted(self) -> list[int]:
        return list(self.study.user_attrs.get("interrupted", []))

    def one_trial(self, done: int) -> None:
        """Propose, train, and write down what came of it.

        Args:
            done: how many have come to their end; what this one is called by.
        """
        # A sampler of its own for each trial: what it draws does not depend on where a search was interrupted.
        self.study.sampler = self._sampler(done)
        trial = self.study.ask()
        params = {name: self._suggest(trial, name, space) for name, space in self.recipe.search.items()}
        name = trial.user_attrs.get("run") or f"{done:04d}"
        trial.set_user_attr("run", name)
        try:
            value, epoch = self._train(trial, self.folder / "trials" / name, params)
        except _Pruned:
            self.study.tell(trial, state=self.state.PRUNED)
        except PalateError as error:  # settings that do not go together
            trial.set_user_attr("error", str(error))
            self.study.tell(trial, state=self.state.FAIL)
            tried = self.finished()
            if len(tried) == _HOPELESS and all(t.state == self.state.FAIL for t in tried):
                raise
        else:
            trial.set_user_attr("epoch", epoch)
            self.study.tell(trial, value)

    def _sampler(self, done: int) -> Any:
        seed = int(digest(f"{self.seed}", f"{done}"), 16) % 2**32
        if self.recipe.sampler == "random":
            return self.optuna.samplers.RandomSampler(seed=seed)
        return self.optuna.samplers.TPESampler(seed=seed, n_startup_trials=self.recipe.startup_trials)

    @staticmethod
    def _suggest(trial: Any, name: str, space: Any) -> Any:
        if isinstance(space, Choices):
            return trial.suggest_categorical(name, space.choices)
        if space.whole:
            return trial.suggest_int(name, space.low, space.high, step=space.step or 1, log=space.log)
        return trial.suggest_float(name, space.low, space.high, step=space.step, log=space.log)

    def _train(self, trial: Any, folder: Path, params: dict[str, Any]) -> tuple[float, int | None]:
        """Value and epoch of the best validation.

        Raises:
            _Pruned: the curve so far is not worth the rest.
        """
        curve: dict[int, float] = {}

        def watch(row: Mapping[str, Any]) -> None:
            if self.label not in row:
                return
            epoch, value = int(row["epoch"]), float(row[self.label])
            curve[epoch] = value if math.isfinite(value) else -math.inf
            # The best so far: a trial is judged by its best epoch, so a bad last one may not end it.
            trial.report(max(curve.values()), epoch)
            if trial.should_prune():
                raise _Pruned

        # A run that was killed has the curve up to there on disk; the callback only hears of what follows.
        resume = (folder / "run.json").is_file()
        if folder.exists() and not resume:
            shutil.rmtree(folder)
        for row in _rows(folder / "metrics.jsonl"):
            watch(row)
        run = self.train(
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
        if curve:
            best = max(curve, key=lambda epoch: (curve[epoch], -epoch))
            if not math.isfinite(curve[best]):
                raise PalateError(f"{self.label} was never a number", "The training diverged.")
            return curve[best], best
        # A model without epochs is measured once, when it is done.
        validation = Validation(self.dataset, self.recipe.metric, self.recipe.exclude_seen)
        return validation(load_recommender(run))[self.label], None

    def summary(self, label: str) -> Study:
        names = {self.state.COMPLETE: "complete", self.state.PRUNED: "pruned", self.state.FAIL: "failed"}
        rows = [
            {
                "trial": number,
                "state": names[t.state],
                "value": t.value if t.state == self.state.COMPLETE else None,
                "epoch": t.user_attrs.get("epoch") or t.last_step,
                "run": f"trials/{t.user_attrs['run']}",
                "error": t.user_attrs.get("error"),
                "params": dict(t.params),
            }
            for number, t in enumerate(self.finished())  # optuna's own count those that were interrupted too
        ]
        complete = [row for row in rows if row["state"] == "complete"]
        best = max(complete, key=lambda row: (row["value"], -row["trial"])) if complete else None
        return Study(self.folder, label, rows, best)


def _rows(path: Path) -> list[dict[str, Any]]:
    return list(json_rows(path)) if path.is_file() else []
