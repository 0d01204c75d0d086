"""Statistics of shops side by side: purchases by item and by user, rare items, and what purchases repeat.

    palate demo --no-mllm && python benchmarks/shop_statistics.py runs/demo/dataset

It takes any prepared dataset (leave-last-out). For each field of its catalogue, the last lines say how often a
purchase and the one after it (or the fifth after it) share the value, as a multiple of what chance gives (the same
purchases in random order). The demo's shop was designed by such figures: docs/demo.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl

from palate.data.dataset import Dataset, Part


def counts(data: Dataset) -> dict[str, str]:
    """Quantiles of purchases, by item and by user, and how rare test targets are."""
    items = np.sort(np.bincount(data.items, minlength=data.num_items + 1)[1:])[::-1]
    users = np.diff(data.offsets)
    seen = data.train_counts[data.items[data.parts == Part.TEST]]

    def spread(values: np.ndarray) -> str:
        quantiles = " / ".join(f"{value:.0f}" for value in np.quantile(values, (0.5, 0.9, 0.99)))
        return f"{values.mean():.1f}; {quantiles}"

    cold, rare = (seen == 0).mean(), ((seen > 0) & (seen <= 5)).mean()
    return {
        "users, items, purchases": f"{len(users):,}, {len(items):,}, {len(data):,}",
        "purchases by item: mean; median / 90% / 99%": spread(items),
        "purchases by user: mean; median / 90% / 99%": spread(users),
        "items with at most 5 purchases": f"{(items <= 5).mean():.0%}",
        "share of the best-selling tenth": f"{items[: len(items) // 10].sum() / items.sum():.0%}",
        "test targets: cold; 1-5 training purchases": f"{cold:.1%}; {rare:.1%}",
    }


def repeats(data: Dataset, field: str, apart: int) -> float:
    """How often purchases ``apart`` steps from each other share the field's value, over chance."""
    column = data.catalogue.frame[field].cast(pl.Categorical).to_physical().cast(pl.Int64).fill_null(-1).to_numpy()
    values, users = column[data.items - 1], data.rows_user
    pairs = np.flatnonzero(users[apart:] == users[:-apart])
    here, later = values[pairs], values[pairs + apart]
    mixed = np.random.default_rng(0).permutation(later)
    together = np.mean(((here == later) & (later >= 0))[here >= 0])
    chance = np.mean(((here == mixed) & (mixed >= 0))[here >= 0])
    return float(together / chance)


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit("usage: python benchmarks/shop_statistics.py DATASET...")
    for folder in map(Path, sys.argv[1:]):
        data = Dataset.load(folder)
        print(f"\n{data.name}: {folder}")
        for name, value in counts(data).items():
            print(f"  {name:46} {value}")
        for field in data.catalogue.text_fields:
            column = data.catalogue.frame[field]
            if column.dtype == pl.String and column.n_unique() < data.num_items / 2:
                soon, late = (repeats(data, field, apart) for apart in (1, 5))
                print(f"  same {field:41} {soon:.1f} x chance; fifth after: {late:.1f}")


if __name__ == "__main__":
    main()
