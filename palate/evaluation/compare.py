"""Several models in one table: means over users and seeds, intervals, and paired differences to a base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from palate.errors import PalateError, suggest
from palate.evaluation.cost import mean_cost
from palate.evaluation.ranks import Floats
from palate.evaluation.result import Result
from palate.evaluation.slices import ALL
from palate.evaluation.statistics import Estimate, bootstrap, holm, pair_seeds
from palate.progress import working


@dataclass(frozen=True)
class Group:
    """Runs of one model that differ in the seed only: one row of the table."""

    label: str
    results: tuple[Result, ...]
    seeds: tuple[int, ...]

    def values(self, metric: str, slice_: str = ALL) -> Floats:
        """float64 ``[seeds, users]``."""
        return np.stack([result.values(metric, slice_) for result in self.results])


@dataclass(frozen=True)
class Difference:
    """A model minus the base, user by user with the same seed.

    Attributes:
        holm: the p-value, adjusted over the family; NaN outside of it.
    """

    estimate: Estimate
    holm: float
    paired_seeds: list[int]


@dataclass(frozen=True)
class Row:
    """One model under one slice."""

    label: str
    seeds: tuple[int, ...]
    estimates: dict[str, Estimate]
    differences: dict[str, Difference]
    by_seed: dict[str, list[float]]
    totals: dict[str, float]


@dataclass(frozen=True)
class Comparison:
    """All rows on identical cases.

    Attributes:
        rows: in the order of the groups.
        slices: name of a slice -> number of users and its rows, with the primary metric only.
        primary: the metric that decides; the p-values of a metric are adjusted over the family of rows.
    """

    base: str
    primary: str
    rows: list[Row]
    slices: dict[str, tuple[int, list[Row]]]
    facts: dict[str, Any]

    def __repr__(self) -> str:
        figures = ", ".join(f"{row.label} {row.estimates[self.primary].mean:.4f}" for row in self.rows)
        return f"Comparison({self.primary}, base {self.base}: {figures})"

    @property
    def metrics(self) -> list[str]:
        return [*self.rows[0].estimates, *self.rows[0].totals]

    def row(self, label: str) -> Row:
        return next(row for row in self.rows if row.label == label)


def compare(
    groups: Sequence[Group],
    *,
    base: str | None = None,
    primary: str | None = None,
    seed: int = 0,
    family: Sequence[str] | None = None,
) -> Comparison:
    """Put groups side by side.

    Args:
        base: Label of the group to compare with; by default the first.
        primary: The metric that decides; by default ``ndcg@10``, or else the first that was measured.
        seed: Of the bootstrap.
        family: Labels of the rows that the question is about: p-values are adjusted over these (Holm), the others
            get none. By default all rows but the base.

    Raises:
        PalateError: unknown rows in the family, or groups that were not evaluated on the same cases under one protocol.
    """
    if not groups:
        raise PalateError("there is nothing to compare", "Give at least one run.")
    labels = [group.label for group in groups]
    base = labels[0] if base is None else base
    if base not in labels:
        raise PalateError(f"the base '{base}' is none of the compared models", suggest(base, labels))
    tested = [label for label in labels if label != base] if family is None else list(family)
    for label in tested:
        if label not in labels or label == base:
            raise PalateError(f"'{label}' of the family is not compared with the base", suggest(label, labels))
    first = groups[0].results[0]
    _check_same(groups)
    if primary is None:
        primary = primary_metric(first.metrics)
    if primary not in first.metrics:
        raise PalateError(f"the primary metric '{primary}' was not measured", suggest(primary, first.metrics))
    with working("Intervals and differences"):
        rows = _rows(groups, base, first.metrics, ALL, seed, tested)
        slices = {
            name: (len(first.users(name)), _rows(groups, base, [primary], name, seed, tested))
            for name in first.slices
            if name != ALL
        }
    shared = {
        key: first.facts.get(key) for key in ("name", "protocol", "split", "cases", "users", "candidates", "dataset")
    }
    costs = {group.label: mean_cost([result.facts.get("cost") or {} for result in group.results]) for group in groups}
    if any("prompts" in cost for cost in costs.values()):  # what fast models cost is nobody's question
        shared["costs"] = costs
    facts = {**shared, "environment": first.facts.get("environment"), "bootstrap_seed": seed, "family": tested}
    return Comparison(base, primary, rows, slices, facts)


def primary_metric(metrics: Sequence[str]) -> str:
    """The metric that decides where nobody says which: ``ndcg@10``, or else the first."""
    return "ndcg@10" if "ndcg@10" in metrics else metrics[0]


def _check_same(groups: Sequence[Group]) -> None:
    """One protocol, one set of users, one set of candidates: else the table compares nothing."""
    first = groups[0].results[0]
    users = first.users()

    def essence(result: Result) -> list[Any]:
        facts = result.facts
        candidates = facts.get("candidates") or {}
        data = facts.get("dataset") or {}
        return [facts.get("name"), facts.get("split"), candidates.get("fingerprint"), data.get("fingerprint")]

    for group in groups:
        for result in group.results:
            if essence(result) != essence(first) or result.users() != users or result.slices != first.slices:
                raise PalateError(
                    f"'{group.label}' was not evaluated like '{groups[0].label}' (protocol, split, data or candidates)",
                    "Evaluate all of them in one call.",
                )


def _rows(
    groups: Sequence[Group], base: str, metrics: Sequence[str], slice_: str, seed: int, family: Sequence[str]
) -> list[Row]:
    reference = next(group for group in groups if group.label == base)
    figures: dict[str, Floats] = {}
    pairs: dict[tuple[str, str], list[int]] = {}
    for metric in metrics:
        base_values = reference.values(metric, slice_)
        for group in groups:
            values = base_values if group is reference else group.values(metric, slice_)
            figures[f"{group.label}\n{metric}"] = values
            if group is not reference:
                key = f"{group.label}\n{metric}\ndifference"
                figures[key], pairs[group.label, metric] = pair_seeds(values, group.seeds, base_values, reference.seeds)
    found = bootstrap(figures, seed=seed)
    adjusted = {
        metric: dict(zip(family, holm([found[f"{o}\n{metric}\ndifference"].p_value for o in family]), strict=True))
        for metric in metrics
    }
    rows = []
    for group in groups:
        differences = {
            metric: Difference(
                found[f"{group.label}\n{metric}\ndifference"],
                float(adjusted[metric].get(group.label, np.nan)),
                pairs[group.label, metric],
            )
            for metric in metrics
            if group is not reference
        }
        by_seed = {m: figures[f"{group.label}\n{m}"].mean(axis=1).tolist() for m in metrics}
        totals = {
            name: float(np.mean([result.totals[name] for result in group.results]))
            for name in (group.results[0].totals if slice_ == ALL else ())
        }
        estimates = {metric: found[f"{group.label}\n{metric}"] for metric in metrics}
        rows.append(Row(group.label, group.seeds, estimates, differences, by_seed, totals))
    return rows
