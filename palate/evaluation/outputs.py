"""A comparison as a folder: tables, chart, per-user results and the candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from palate.console import Table
from palate.evaluation import chart, trade_off
from palate.evaluation.candidates import Candidates
from palate.evaluation.compare import Comparison, Group
from palate.evaluation.result import Result
from palate.evaluation.saved import load_table
from palate.evaluation.tables import to_json, to_markdown
from palate.storage.files import atomic_folder, write_json, write_text
from palate.storage.remote import takes_urls
from palate.storage.tables import read_parquet


@takes_urls("folder")
def save_comparison(
    folder: Path | str,
    comparison: Comparison,
    groups: Sequence[Group],
    *,
    facts: Mapping[str, Any] | None = None,
    more: Sequence[Table] = (),
    replace: bool = False,
) -> None:
    """Write a new folder, all or nothing.

    ``per-user.parquet`` has one row per model, seed, slice and user; ``table.json`` also says of every run where it
    came from.

    Args:
        facts: further entries of ``table.json``.
        more: further tables of ``table.md``.
        replace: whether an existing folder may be replaced.
    """
    with atomic_folder(folder, replace=replace) as part:
        frames = [
            result.frame.select(pl.lit(group.label).alias("model"), pl.lit(seed).alias("seed"), pl.all())
            for group in groups
            for seed, result in zip(group.seeds, group.results, strict=True)
        ]
        pl.concat(frames).write_parquet(part / "per-user.parquet")
        runs = {group.label: [result.facts["run"] for result in group.results] for group in groups}
        write_json(part / "table.json", {**to_json(comparison), "runs": runs, **(facts or {})})
        write_text(part / "table.md", to_markdown(comparison, more))
        chart.draw(comparison, part / "chart.png")
        trade_off.draw(comparison, part / "trade-off.png")
        candidates = groups[0].results[0].candidates
        if candidates is not None:
            candidates.save(part / "candidates.npz")


def load_groups(folder: Path | str) -> list[Group]:
    """The rows of a comparison, from the folder that :func:`save_comparison` made.

    Figures of the whole set, such as coverage, are those of the row's mean over its seeds.
    """
    folder = Path(folder)
    table = load_table(folder)
    frame = read_parquet(folder / "per-user.parquet")
    path = folder / "candidates.npz"
    candidates = Candidates.load(path) if path.exists() else None
    rows = ("models", "slices", "runs", "notes", "base", "primary", "costs", "bootstrap_seed", "family", "bounds")
    shared = {name: value for name, value in table.facts.items() if name not in rows}
    groups = []
    for row in table.models:
        totals = {name: one.mean for name, one in row.metrics.items() if one.total and one.mean is not None}
        results = [
            Result(
                frame.filter(model=row.label, seed=seed).drop("model", "seed"),
                totals,
                {**shared, "run": run, "cost": table.costs.get(row.label)},
                candidates,
            )
            for seed, run in zip(row.seeds, table.facts["runs"][row.label], strict=True)
        ]
        groups.append(Group(row.label, tuple(results), tuple(row.seeds)))
    return groups


def load_result(folder: Path | str) -> Result:
    """The result of one run, from the folder that :func:`save_comparison` made of it alone."""
    (group,) = load_groups(folder)
    (result,) = group.results
    return result
