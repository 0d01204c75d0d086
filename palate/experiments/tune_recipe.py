"""A search for the settings of one ranker: what is fixed, what is searched, and that all of it exists.

A recipe is that of a comparison with one arm; how it is searched may stand in ``[tune]``::

    [arm.sasrec]
    model = "sasrec"
    epochs = 60
    [arm.sasrec.ranker]                 # fixed
    dim = 64
    [arm.sasrec.search]                 # varied
    "ranker.dropout" = { low = 0.1, high = 0.6, step = 0.1 }
    "ranker.norm" = ["pre", "post"]

    [tune]
    trials = 12
    pruner = "median"

Without arms, the table ``[tune]`` holds all of it, as the fields of :class:`TuneRecipe`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from palate.config import Config
from palate.errors import PalateError, suggest
from palate.experiments.read_recipe import read_recipe
from palate.experiments.recipe import Recipe
from palate.experiments.space import Space, read_spaces
from palate.objectives import OBJECTIVES
from palate.rankers.registry import RANKERS
from palate.rankers.trained import TrainedRanker
from palate.storage.toml import read_toml
from palate.training.config import TrainerConfig
from palate.training.plan import trainable

Settings = dict[str, dict[str, Any]]
# Settings of the trainer that are fields of a TuneRecipe.
_TRAINER = ("epochs", "metric", "exclude_seen")


class TuneRecipe(Config):
    """What one search is made of.

    Attributes:
        model, objective, modalities, missing, store: as for ``palate train``.
        metric: of the validation split; the best epoch of a trial counts.
        exclude_seen: whether validation leaves out the history (product) or not (peer).
        epochs: at most, per trial.
        settings: fixed settings by section.
        search: ``"SECTION.KEY"`` -> what to try.
        sampler: ``tpe`` learns from the trials so far, ``random`` does not.
        pruner: ``median`` stops a trial that is worse at an epoch than half of the earlier ones were; ``hyperband``
            hands out epochs in brackets; ``none`` lets all run.
        prune_after: epochs that every trial may run.
        startup_trials: random trials before sampler and pruner begin.
        trials, seed: defaults of ``--trials`` and ``--seed``.
    """

    model: str
    objective: str = "cross-entropy"
    modalities: list[str] = Field(default_factory=lambda: ["id"])
    missing: str = "learned"
    store: list[str] = Field(default_factory=list)
    metric: str = "NDCG@10"
    exclude_seen: bool = True
    epochs: int | None = Field(None, ge=1)
    settings: Settings = Field(default_factory=dict)
    search: dict[str, Space]
    sampler: Literal["tpe", "random"] = "tpe"
    pruner: Literal["median", "hyperband", "none"] = "median"
    prune_after: int = Field(5, ge=0)
    startup_trials: int = Field(5, ge=0)
    trials: int | None = Field(None, ge=1)
    seed: int | None = Field(None, ge=0)

    @field_validator("search", mode="before")
    @classmethod
    def _spaces(cls, value: Any) -> Any:
        return read_spaces(value, "[tune.search]") if isinstance(value, Mapping) else value

    @property
    def neural(self) -> bool:
        return issubclass(RANKERS[self.model], TrainedRanker)

    def settings_of(self, params: Mapping[str, Any]) -> Settings:
        """The settings of a trial: the fixed ones with the searched values."""
        settings: Settings = deepcopy(self.settings)
        if self.neural:
            trainer = settings.setdefault("trainer", {})
            trainer |= {"metric": self.metric, "exclude_seen": self.exclude_seen}
            if self.epochs is not None:
                trainer["epochs"] = self.epochs
        for name, value in params.items():
            section, _, key = name.partition(".")
            settings.setdefault(section, {})[key] = value
        return settings

    def check(self, where: str) -> None:
        """Refuse unknown names and impossible values before the first trial.

        Every end of an interval and every choice is tried on the options' own model, one at a time.

        Raises:
            PalateError: naming ``where`` and the key.
        """
        if not self.search:
            raise PalateError(
                f"{where}: [tune.search] is empty", 'Say what to try: "ranker.dropout" = {low=0.1, high=0.5}'
            )
        models = self._models()
        for section in self.settings:
            if section not in models:
                raise PalateError(f"{where}: unknown section 'settings.{section}'", suggest(section, models))
        for key in _TRAINER:
            if key in self.settings.get("trainer", {}):
                raise PalateError(
                    f"{where}: settings.trainer.{key} is a key of [tune] itself", f"Write it as {key} = ..."
                )
        if not self.neural and self.epochs is not None:
            raise PalateError(f"{where}: {self.model} is not trained in epochs", "Leave out 'epochs'.")
        for name in self.search:
            section, _, key = name.partition(".")
            if section not in models:
                raise PalateError(
                    f"{where}: search '{name}' is of no known section", f"Write SECTION.KEY. {suggest(section, models)}"
                )
            if key not in models[section].model_fields:
                raise PalateError(f"{where}: unknown option '{name}'", suggest(key, models[section].model_fields))
            if key in self.settings_of({}).get(section, {}):
                raise PalateError(f"{where}: '{name}' is both fixed and searched", "Keep one of them.")
        for name, space in self.search.items():
            for value in space.ends():
                self._parse({**self._first, name: value}, f"{where}: with {name} = {value!r}")

    @property
    def catalogue_fields(self) -> tuple[str, ...] | None:
        """Columns of the catalogue that the modality ``fields`` reads; None: all whose values items share."""
        read: tuple[str, ...] | None = getattr(self._parse(self._first, "[tune]")["ranker"], "fields", None)
        return read

    @property
    def _first(self) -> dict[str, Any]:
        """A value of each setting that is searched."""
        return {name: space.ends()[0] for name, space in self.search.items()}

    def _models(self) -> dict[str, type[Config]]:
        kinds: dict[str, type[Config]] = {"ranker": trainable(self.model).Config}
        if self.neural:
            kinds |= {"objective": OBJECTIVES[self.objective].Config, "trainer": TrainerConfig}
        return kinds

    def _parse(self, params: Mapping[str, Any], where: str) -> dict[str, Config]:
        settings, parsed = self.settings_of(params), {}
        for section, model in self._models().items():
            values = settings.get(section, {})
            if section == "ranker" and self.neural:
                values = {"modalities": tuple(self.modalities), "missing": self.missing, **values}
            parsed[section] = model.parse(values, where=f"{where}: [{section}]")
        return parsed


def read_tune_recipe(path: Path, also: Sequence[str] = ()) -> TuneRecipe:
    """The search of a file: its one searched arm, or all of its table ``[tune]``.

    Args:
        also: names of tables that belong to other commands and are left alone.

    Raises:
        PalateError: the file holds neither, or something unknown.
    """
    tables, where = read_toml(path), f"{path} [tune]"
    table = tables.get("tune", {} if "arm" in tables else None)
    if not isinstance(table, dict):
        raise PalateError(f"{path} has no table [tune]", "Write one, or an arm: [arm.NAME] with [arm.NAME.search].")
    values = {key.replace("-", "_"): value for key, value in table.items()}
    if "arm" in tables:
        values = {**_of_arm(read_recipe(path, ("tune", *also))), **values}
    return TuneRecipe.parse(values, where)


def _of_arm(recipe: Recipe) -> dict[str, Any]:
    """The searched arm of a comparison as fields of a :class:`TuneRecipe`."""
    searched = [name for name, arm in recipe.arms.items() if arm.search]
    if len(searched) != 1 or recipe.arms[searched[0]].command != "train":
        raise PalateError(
            f"{recipe.path} has {len(searched)} arms with a search; one that is trained from scratch can be tuned",
            f"Search them all: palate compare {recipe.path} --until trials.",
        )
    (name,) = searched
    fields = {key.replace("-", "_"): value for key, value in recipe.options(name, {}).items()}
    settings = {key: fields.pop(key) for key, value in list(fields.items()) if isinstance(value, dict)}
    if "name" in settings.get("objective", {}):
        fields["objective"] = settings["objective"].pop("name")
    trainer = settings.get("trainer", {})
    fields |= {key: trainer.pop(key) for key in _TRAINER if key in trainer}
    common = {"trials": recipe.compare.trials, "seed": recipe.compare.seeds[0]}
    return {**common, **fields, "settings": settings, "search": recipe.arms[name].search}
