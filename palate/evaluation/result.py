"""The result of one evaluation: one row per user and slice, figures of the whole set, and where it all came from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from palate.errors import PalateError
from palate.evaluation.candidates import Candidates
from palate.evaluation.ranks import Floats
from palate.evaluation.slices import ALL
from palate.storage.files import atomic_folder, read_json, write_json
from palate.storage.tables import read_parquet

FORMAT = 1
KEYS = ("slice", "user_id", "targets", "history")


@dataclass(frozen=True)
class Result:
    """What :func:`palate.evaluation.evaluate.evaluate` gives.

    Attributes:
        frame: columns ``slice``, ``user_id``, ``targets`` (how many), ``history`` (its length) and one per metric, such
            as ``ndcg@10``. The rows with slice ``all`` are the evaluation; the others look at parts of it.
        totals: figures of the whole set that no user has alone, such as ``coverage@10``.
        facts: run, seed, split, protocol, candidates, data, commit: what traces the numbers.
        candidates: those that were ranked, if they were sampled.
    """

    frame: pl.DataFrame
    totals: dict[str, float]
    facts: dict[str, Any]
    candidates: Candidates | None = None

    def __repr__(self) -> str:
        figures = ", ".join(f"{name} {value:.4f}" for name, value in self.summary().items())
        return f"Result({len(self.users()):,} users: {figures})"

    @property
    def metrics(self) -> list[str]:
        """Names of the per-user metrics."""
        return [name for name in self.frame.columns if name not in KEYS]

    @property
    def slices(self) -> list[str]:
        """Names of the slices, ``all`` first."""
        return self.frame["slice"].unique(maintain_order=True).to_list()

    def users(self, slice_: str = ALL) -> list[str]:
        return self.frame.filter(pl.col("slice") == slice_)["user_id"].to_list()

    def values(self, metric: str, slice_: str = ALL) -> Floats:
        """float64 ``[users of the slice]``."""
        if metric not in self.metrics:
            raise PalateError(f"'{metric}' was not measured", f"There are: {', '.join(self.metrics)}.")
        return self.frame.filter(pl.col("slice") == slice_)[metric].to_numpy()

    def summary(self, slice_: str = ALL) -> dict[str, float]:
        """Mean of every metric over the users of a slice; with the figures of the whole set for ``all``."""
        means = {name: float(np.mean(self.values(name, slice_))) for name in self.metrics}
        return {**means, **self.totals} if slice_ == ALL else means

    def save(self, folder: Path | str, *, replace: bool = False) -> None:
        """Write ``per-user.parquet``, ``result.json`` and, if sampled, ``candidates.npz``: all or nothing."""
        with atomic_folder(folder, replace=replace) as part:
            self.frame.write_parquet(part / "per-user.parquet")
            summary = {name: self.summary(name) for name in self.slices}
            write_json(
                part / "result.json", {"format": FORMAT, **self.facts, "totals": self.totals, "summary": summary}
            )
            if self.candidates is not None:
                self.candidates.save(part / "candidates.npz")

    @classmethod
    def load(cls, folder: Path | str) -> Result:
        """Read what :meth:`save` wrote."""
        folder = Path(folder)
        facts = read_json(folder / "result.json")
        if not isinstance(facts, dict) or facts.pop("format", None) != FORMAT:
            raise PalateError(f"{folder} holds no result that this Palate reads", "Evaluate again.")
        facts.pop("summary", None)
        totals = facts.pop("totals", {})
        try:
            frame = read_parquet(folder / "per-user.parquet")
        except (OSError, pl.exceptions.PolarsError) as error:
            raise PalateError(f"{folder} is damaged ({error})", "Evaluate again.") from None
        path = folder / "candidates.npz"
        return cls(frame, totals, facts, Candidates.load(path) if path.exists() else None)
