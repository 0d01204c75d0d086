"""A table's users apart: those whose target shares a value of the catalogue with their history, and the others.

    python benchmarks/shared_values.py data/hm runs/transfer-hm/test --field title --last 9

A model that only compares words does well on the first, and the difference says how much of its figure that is. `title`
finds the same garment in another colour.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from palate.data.dataset import Dataset
from palate.features.fields import values_of


def sharing(dataset: Dataset, field: str, last: int) -> dict[str, bool]:
    """Of each test user, whether a target has the value of one of the last items of the history, by user id."""
    values = [[], *values_of(dataset.catalogue.frame[field])]
    cases = dataset.cases("test")
    rows = zip(cases.users.tolist(), cases.histories.to_lists(), cases.targets.to_lists(), strict=True)
    return {
        str(dataset.user_ids[user]): bool(_values(values, history[-last:]) & _values(values, targets))
        for user, history, targets in rows
    }


def _values(values: Sequence[Sequence[str]], items: Sequence[int]) -> set[str]:
    return {value for item in items for value in values[item]}


def means(table: pl.DataFrame, apart: dict[str, bool], metric: str) -> pl.DataFrame:
    """Columns ``model``, ``shared``, ``users`` and the metric's mean over users and seeds."""
    users = table.filter(pl.col("slice") == "all").with_columns(
        shared=pl.col("user_id").cast(pl.String).replace_strict(apart, return_dtype=pl.Boolean)
    )
    grouped = users.group_by("model", "shared", maintain_order=True)
    return grouped.agg(pl.col("user_id").n_unique().alias("users"), pl.col(metric).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("table", type=Path, help="folder of `palate evaluate --out` or of `palate compare`")
    parser.add_argument("--field", default="title")
    parser.add_argument("--last", type=int, default=9, help="items of the history")
    parser.add_argument("--metric", default="auc")
    given = parser.parse_args()
    apart = sharing(Dataset.load(given.dataset), given.field, given.last)
    found = means(pl.read_parquet(given.table / "per-user.parquet"), apart, given.metric)
    print(f"| model | target shares its {given.field} with the history | users | {given.metric} |")
    print("|---|---|---|---|")
    for row in found.sort("model", "shared").iter_rows(named=True):
        print(f"| {row['model']} | {'yes' if row['shared'] else 'no'} | {row['users']} | {row[given.metric]:.3f} |")


if __name__ == "__main__":
    main()
