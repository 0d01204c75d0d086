"""How often near twins are false negatives: the share of the items in a run's pools that the same user takes later in
training, among near twins of the chosen item and among the others. Nothing is trained.

    python benchmarks/near_twins.py RUN [--dataset DATASET] [--twins lexical=0.5 --twins image=0.3] [--pool-k 10]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from palate.alignment.pairs import PairDrawer, sample_pairs
from palate.alignment.plan import plan_alignment
from palate.alignment.prefixes import Prefixes
from palate.alignment.twins import Twins, make_twins
from palate.negatives.config import NegativesConfig

TWINS = ["lexical=0.3", "lexical=0.5", "text=0.3", "image=0.3", "co-occurrence=0.05"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--dataset", type=Path)
    parser.add_argument("--twins", action="append", metavar="SOURCE=COSINE")
    parser.add_argument("--pool-k", type=int, action="append")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sizes = sorted(options.pool_k or [10, 50])
    plan = plan_alignment(
        options.run,
        objective="dpo",
        negatives="top-k",
        settings={"negatives": {"pool_k": sizes[-1]}},
        dataset_path=options.dataset,
    )
    prepared = plan.prepare()
    counts = torch.from_numpy(plan.dataset.train_counts).float()
    pairs = PairDrawer(plan.settings.align, plan.settings.negatives, Prefixes(prepared.data.sequences), counts)
    found: dict[str, Twins] = {}
    for name in options.twins or TWINS:
        source, _, cosine = name.partition("=")
        config = NegativesConfig(twins="out", twin_source=source, twin_cosine=float(cosine or 0.5))
        made = make_twins(config, plan.dataset, plan.path)
        assert made is not None
        found[name] = made
    sums = {(name, size): np.zeros(5) for name in found for size in sizes}
    width = int((counts > 0).sum())
    with torch.no_grad():
        for drawn in sample_pairs(pairs, prepared.model, prepared.data, counts):
            pool, valid = drawn.rejected.pool, drawn.rejected.pool_valid
            assert pool is not None
            assert valid is not None
            rows = np.arange(len(pool))
            later = pairs.classes(*pairs.prefixes.future(drawn.row_places), len(pool), width).has(pool) & valid
            for name, twins in found.items():
                near = pairs.classes(*twins.of_rows(rows, drawn.items[:, 0].numpy()), len(pool), width)
                twin = near.has(pool) & valid
                for size in sizes:
                    parts = (twin & later, twin, later, valid)
                    sums[name, size] += [*(float(part[:, :size].sum()) for part in parts), len(pool)]
    print("| pool | twins | of an item | in the pool | of twins, later | of others, later | share of all later |")
    print("|---|---|---|---|---|---|---|")
    for (name, size), (both, twin_items, later_items, items, pools) in sums.items():
        rate, rest = both / max(twin_items, 1), (later_items - both) / max(items - twin_items, 1)
        error = 1.96 * (rate * (1 - rate) / max(twin_items, 1)) ** 0.5
        print(
            f"| {size} | {name} | {found[name].facts['per_item']:.1f} | {twin_items / pools:.2f} | "
            f"{rate:.1%} ± {error:.1%} | {rest:.1%} | {both / max(later_items, 1):.1%} |"
        )


if __name__ == "__main__":
    main()
