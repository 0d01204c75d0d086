"""Tables of ``palate evaluate`` as the report reads them: from a comparison just made, or from its ``table.json``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from palate.errors import PalateError
from palate.storage.files import read_json

REMEDY = "Give a folder that `palate evaluate --out` or `palate compare` wrote."


class _Part(BaseModel):
    # A table may say more than the page shows; what the page shows must be there and be what it seems.
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False, strict=True)


class Figure(_Part):
    """A mean with its interval."""

    mean: float | None = None
    low: float | None = None
    high: float | None = None
    by_seed: list[float] = []


class Difference(Figure):
    """A model minus the base."""

    p: float | None = None
    p_holm: float | None = None


class Model(_Part):
    """One row."""

    label: str
    seeds: list[int]
    metrics: dict[str, Figure]
    differences: dict[str, Difference] = {}


class Slice(_Part):
    """The rows for some of the users."""

    users: int
    models: list[Model]


class Data(_Part):
    """The dataset that was evaluated on."""

    name: str
    fingerprint: str


class Sample(_Part):
    """Who was looked at, where not everybody was."""

    drawn: int
    of: int
    seed: int


class RunFacts(_Part):
    """Where a row's run came from."""

    folder: str
    model: str
    seed: int
    commit: str | None = None


class Evaluated(_Part):
    """One table; :func:`read_table` and :func:`table_of` make it."""

    name: str
    protocol: str
    split: str
    cases: int
    users: Sample | None = None
    dataset: Data
    base: str
    primary: str
    models: list[Model]
    slices: dict[str, Slice] = {}
    notes: list[str] = []
    costs: dict[str, dict[str, Any]] = {}
    family: list[str] = []
    runs: dict[str, list[RunFacts | None]] = {}

    @property
    def labels(self) -> list[str]:
        return [model.label for model in self.models]

    @property
    def contenders(self) -> list[Model]:
        """The base and the rows that the question is about: all rows, where no family was named."""
        named = {self.base, *self.family} if self.family else set(self.labels)
        return [model for model in self.models if model.label in named]

    @property
    def exclude_seen(self) -> bool:
        """Whether what a user has had already was left out of the ranking."""
        return not self.name.startswith("peer")


def table_of(facts: Mapping[str, Any], where: str) -> Evaluated:
    """Read what ``palate.evaluation.tables.to_json`` gives (and ``runs``, if it has them).

    Raises:
        PalateError: it is no such table; ``where`` is named.
    """
    try:
        table = Evaluated.model_validate(facts)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise PalateError(f"{where} is no table of an evaluation ('{key}': {first['msg']})", REMEDY) from None
    whole = [*table.models, *(model for part in table.slices.values() for model in part.models)]
    if not table.models or any(table.primary not in model.metrics for model in whole):
        raise PalateError(f"{where} is no table of an evaluation (no figures of '{table.primary}')", REMEDY)
    return table


def read_table(folder: Path | str) -> Evaluated:
    """The table in a folder of ``palate evaluate --out``, or in its ``table.json``."""
    path = Path(folder)
    path = path / "table.json" if path.is_dir() else path
    if not path.is_file():
        raise PalateError(f"{path} does not exist", REMEDY)
    facts = read_json(path)
    if not isinstance(facts, dict):
        raise PalateError(f"{path} is no table of an evaluation", REMEDY)
    return table_of(facts, str(path))
