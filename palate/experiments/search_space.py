"""What a tuning recipe says: the model, what is fixed, what is searched, and that all of it exists.

::

    [tune]
    model = "sasrec"
    modalities = ["id"]
    metric = "NDCG@10"
    epochs = 60

    [tune.settings.ranker]              # fixed
    dim = 64

    [tune.search]                       # varied
    "ranker.dropout" = { low = 0.1, high = 0.6, step = 0.1 }
    "ranker.norm" = { choices = ["pre", "post"] }
    "trainer.learning_rate" = { low = 1e-4, high = 3e-3, log = true }
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, field_validator, model_validator

from palate.config import Config
from palate.errors import PalateError, suggest
from palate.objectives import OBJECTIVES
from palate.rankers.registry import RANKERS
from palate.rankers.sequential import SequentialRanker
from palate.training.config import TrainerConfig

Settings = dict[str, dict[str, Any]]


class Choices(Config):
    """One of a few values."""

    choices: list[bool | int | float | str] = Field(min_length=1)

    def ends(self) -> list[Any]:
        return list(self.choices)


class Interval(Config):
    """Numbers from ``low`` to ``high`` (whole ones where both are whole), in steps, or evenly in their logarithm."""

    low: int | float
    high: int | float
    step: int | float | None = None
    log: bool = False

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.low > self.high:
            raise ValueError("low is above high")
        if self.log and self.step is not None:
            raise ValueError("log and step exclude each other")
        if self.log and self.low <= 0:
            raise ValueError("a logarithm needs low > 0")
        if self.step is not None and self.step <= 0:
            raise ValueError("step must be above 0")
        return self

    @property
    def whole(self) -> bool:
        numbers = [self.low, self.high, *([self.step] if self.step is not None else [])]
        return all(isinstance(number, int) for number in numbers)

    def ends(self) -> list[Any]:
        return [self.low, self.high]


class TuneRecipe(Config):
    """The table ``[tune]``.

    Attributes:
        model, objective, modalities, missing, store: as for ``palate train``.
        metric: of the validation split; the best epoch of a trial counts.
        exclude_seen: whether validation leaves out the history (product) or not (peer).
        epochs: at most so many a trial.
        settings: fixed settings by section.
        search: ``"SECTION.KEY"`` -> what to try.
        sampler: ``tpe`` learns from the trials so far, ``random`` does not.
        pruner: ``median`` stops a trial that is worse at an epoch than half of the earlier ones were; ``hyperband``
            hands out epochs in brackets; ``none`` lets all run.
        prune_after: epochs that every trial may run.
        startup_trials: random trials before sampler and pruner begin.
        trials, seed: what ``--trials`` and ``--seed`` say otherwise.
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
    search: dict[str, Choices | Interval]
    sampler: Literal["tpe", "random"] = "tpe"
    pruner: Literal["median", "hyperband", "none"] = "median"
    prune_after: int = Field(5, ge=0)
    startup_trials: int = Field(5, ge=0)
    trials: int | None = Field(None, ge=1)
    seed: int | None = Field(None, ge=0)

    @field_validator("search", mode="before")
    @classmethod
    def _spaces(cls, value: Any) -> Any:
        """Each entry by its own model, so that a mistake is told in its words; ``ranker.dropout`` may be unquoted."""
        if not isinstance(value, Mapping):
            return value
        return {name: _space(name, entry) for name, entry in _flat(value).items()}

    @property
    def neural(self) -> bool:
        return issubclass(RANKERS[self.model], SequentialRanker)

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
            # Steps of 0.1 add up to 0.30000000000000004.
            settings.setdefault(section, {})[key] = round(value, 12) if isinstance(value, float) else value
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
        for key in ("epochs", "metric", "exclude_seen"):
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
        first = {name: space.ends()[0] for name, space in self.search.items()}
        for name, space in self.search.items():
            for value in space.ends():
                self._parse({**first, name: value}, models, f"{where}: with {name} = {value!r}")

    def _models(self) -> dict[str, type[Config]]:
        kinds: dict[str, type[Config]] = {"ranker": RANKERS[self.model].Config}
        if self.neural:
            kinds |= {"objective": OBJECTIVES[self.objective].Config, "trainer": TrainerConfig}
        return kinds

    def _parse(self, params: Mapping[str, Any], models: Mapping[str, type[BaseModel]], where: str) -> None:
        settings = self.settings_of(params)
        for section, model in models.items():
            values = settings.get(section, {})
            if section == "ranker" and self.neural:
                values = {"modalities": tuple(self.modalities), "missing": self.missing, **values}
            assert issubclass(model, Config)
            model.parse(values, where=f"{where}: [{section}]")


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for key, value in table.items():
        inner = isinstance(value, Mapping) and value and all(isinstance(one, Mapping) for one in value.values())
        rows |= _flat(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return rows


def _space(name: str, entry: Any) -> Any:
    if isinstance(entry, Choices | Interval):
        return entry
    if not isinstance(entry, Mapping):
        raise PalateError(
            f"[tune.search] '{name}' is {entry!r}",
            "Write {low=..., high=...} or {choices=[...]}; fixed values go elsewhere.",
        )
    kind: type[Config] = Choices if "choices" in entry else Interval
    return kind.parse(entry, where=f"[tune.search] '{name}'")
