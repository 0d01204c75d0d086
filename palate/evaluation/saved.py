"""Tables of ``palate evaluate`` and ``palate compare`` read back: the one reader of ``table.json``, checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from palate.console import counted
from palate.errors import PalateError
from palate.runs.run import Run
from palate.storage.files import read_json

# With one target per case these are equal.
_TWINS = {"hitrate": "recall", "map": "mrr"}
REMEDY = "Give a folder that `palate evaluate --out` or `palate compare` wrote."


class _Saved(BaseModel):
    # A table may hold more than is read here; what is read must be there and of its type.
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False, strict=True)


class SavedFigure(_Saved):
    """A mean with its interval and the means of the seeds."""

    mean: float | None = None
    low: float | None = None
    high: float | None = None
    by_seed: list[float] = []

    @property
    def total(self) -> bool:
        """Whether it is one figure of the whole model, such as coverage, without users and interval."""
        return "low" not in self.model_fields_set


class SavedDifference(SavedFigure):
    """A model minus the base."""

    p: float | None = None
    p_holm: float | None = None
    detectable: float | None = None


class SavedRow(_Saved):
    """One row."""

    label: str
    seeds: list[int]
    metrics: dict[str, SavedFigure]
    differences: dict[str, SavedDifference] = {}

    def mean(self, metric: str) -> float | None:
        """The mean of a metric; None where it is not known."""
        return None if metric not in self.metrics else self.metrics[metric].mean


class SavedSlice(_Saved):
    """The rows for some of the users."""

    users: int
    models: list[SavedRow]


class EvaluatedData(_Saved):
    """The dataset that was evaluated on."""

    name: str
    fingerprint: str | None = None  # unknown of figures that were transcribed from a page


class SampledUsers(_Saved):
    """The users that were drawn, where not all were evaluated."""

    drawn: int
    of: int
    seed: int


class SavedRun(_Saved):
    """Where a row's run came from; its ``facts`` in the table hold more."""

    folder: str
    model: str
    seed: int
    commit: str | None = None
    options: dict[str, Any] = {}

    def check_same(self, run: Run) -> None:
        """Refuse the run in this folder where it is another one than was measured.

        Raises:
            PalateError: of another model, seed or options, or made by another commit.
        """
        commit = run.info["environment"].get("commit")
        mine = (run.info["model"], run.seed, run.info["options"], commit if self.commit else None)
        if mine != (self.model, self.seed, self.options, self.commit):
            raise PalateError(
                f"{run.folder} holds another run than the one that was measured as {self.model}, seed {self.seed}",
                "Evaluate it again.",
            )


class SavedTable(_Saved):
    """One table, as :func:`load_table` and :func:`parse_table` return it.

    Attributes:
        bounds: labels of rows that show what was possible, such as an oracle's, and are no models that one can have.
        facts: everything that the table holds, as it was read.
    """

    name: str
    protocol: str
    split: str
    cases: int
    users: SampledUsers | None = None
    dataset: EvaluatedData
    base: str
    primary: str
    models: list[SavedRow]
    slices: dict[str, SavedSlice] = {}
    notes: list[str] = []
    costs: dict[str, dict[str, Any]] = {}
    family: list[str] = []
    bounds: list[str] = []
    runs: dict[str, list[SavedRun | None]] = {}
    environment: dict[str, Any] | None = None
    facts: dict[str, Any] = Field({}, repr=False)

    @property
    def title(self) -> str:
        """What was measured: data, split, protocol, and how many users."""
        part = f"{self.users.drawn:,} of " if self.users else ""
        users = counted(self.users.of if self.users else self.cases, "user")
        return f"{self.dataset.name}, {self.split} split, {self.name}, {part}{users}"

    @property
    def labels(self) -> list[str]:
        return [model.label for model in self.models]

    def shown_metrics(self) -> list[str]:
        """The primary metric, then those at its cut-off or without one; what repeats another is left out."""
        cut = self.primary.partition("@")[2]
        shown = [self.primary]
        for name in self.models[0].metrics:
            word, _, k = name.partition("@")
            twin = f"{_TWINS[word]}@{k}" if word in _TWINS else ""
            repeats = twin in shown and all(row.mean(name) == row.mean(twin) for row in self.models)
            if name != self.primary and k in ("", cut) and not repeats:
                shown.append(name)
        return shown

    @property
    def contenders(self) -> list[SavedRow]:
        """The base and the rows that the question is about: all rows, where no family was named."""
        named = {self.base, *self.family} if self.family else set(self.labels)
        return [model for model in self.models if model.label in named]

    @property
    def exclude_seen(self) -> bool:
        """Whether what a user has had already was left out of the ranking."""
        return not self.name.startswith("peer")


def parse_table(facts: Mapping[str, Any], where: str) -> SavedTable:
    """Read what ``palate.evaluation.tables.to_json`` gives (and ``runs``, if it has them).

    Raises:
        PalateError: it is no such table; ``where`` is named.
    """
    try:
        table = SavedTable.model_validate({**facts, "facts": dict(facts)})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise PalateError(f"{where} is no table of an evaluation ('{key}': {first['msg']})", REMEDY) from None
    whole = [*table.models, *(model for part in table.slices.values() for model in part.models)]
    if not table.models or any(table.primary not in model.metrics for model in whole):
        raise PalateError(f"{where} is no table of an evaluation (no figures of '{table.primary}')", REMEDY)
    return table


def load_table(folder: Path | str) -> SavedTable:
    """The table in a folder of ``palate evaluate --out``, or in its ``table.json``."""
    path = Path(folder)
    path = path / "table.json" if path.is_dir() else path
    if not path.is_file():
        raise PalateError(f"{path} does not exist", REMEDY)
    facts = read_json(path)
    if not isinstance(facts, dict):
        raise PalateError(f"{path} is no table of an evaluation", REMEDY)
    return parse_table(facts, str(path))
