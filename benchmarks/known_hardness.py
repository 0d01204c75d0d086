"""HaNoRec where hardness is known: the demo's shop, whose generator knows how close two items are to any taste.

    palate demo --no-mllm --out runs/demo
    python benchmarks/known_hardness.py runs/demo/dataset --out runs/hardness --seeds 3

A language model, fine-tuned on a few users (the reference), is aligned on pairs of a purchase and an item drawn
uniformly, by DPO and by HaNoRec with nothing but a hardness: calibrated from the items' texts, from the generator's own
likings (``true``: an oracle), and the latter dealt out to other pairs (``shuffled``). One table: AUC on sampled
candidates, and differences to DPO. Runs in ``--out`` are kept, so that the same command goes on after an interruption.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from aligned_arms import add_options, make_arm, make_start

from palate.cli.demo import run_command
from palate.console import print_table
from palate.data.dataset import Dataset
from palate.demo.shop.truth import Truth, load_truth
from palate.evaluation.compare import Group, compare
from palate.evaluation.outputs import load_groups, save_comparison
from palate.evaluation.tables import footnotes, main_table
from palate.features.matrix import import_matrix
from palate.features.store import FeatureStore

PROMPT = {"item_text": "full", "history_text": "full", "history_items": 6, "fields": ["brand"]}
HANOREC: dict[str, Any] = {"responsiveness": "one", "noise": "none"}
ARMS: dict[str, tuple[str, dict[str, Any], str]] = {
    "dpo": ("dpo", {}, "text"),
    "hardness calibrated (texts)": ("hanorec", {**HANOREC, "hardness": "calibrated"}, "text"),
    "hardness true (oracle)": ("hanorec", {**HANOREC, "hardness": "calibrated"}, "truth"),
    "hardness shuffled (control)": ("hanorec", {**HANOREC, "hardness": "shuffled"}, "truth"),
}


def likings(truth: Truth) -> np.ndarray:
    """float32 ``[num_items + 1, width]``: inner products are how alike two items are to the people of the shop.

    The columns are what people weigh (look, kind, brand, material), each scaled by how much people differ in it.
    """
    tastes = truth.strength * truth.taste.std(0)
    parts = [
        truth.look * tastes,
        np.eye(truth.category_liking.shape[1])[truth.category] * truth.category_liking.std(),
        np.eye(truth.brand_liking.shape[1])[truth.brand] * truth.brand_liking.std(),
        truth.natural[:, None] * truth.natural_liking.std(),
    ]
    return np.concatenate(parts, axis=1).astype(np.float32)


def truth_store(data: Dataset, dataset: Path) -> FeatureStore:
    """The likings as a feature store of the dataset."""
    folder = dataset / "features" / "truth"
    if folder.exists():
        return FeatureStore.load(folder, data.catalogue)
    with tempfile.TemporaryDirectory() as place:
        matrix, ids = Path(place) / "truth.npy", Path(place) / "ids.txt"
        np.save(matrix, likings(load_truth(dataset))[1:], allow_pickle=False)
        ids.write_text("\n".join(data.catalogue.ids[1:]))
        return import_matrix(data, dataset, "text", matrix, ids=ids, name="truth", store="truth")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, positions=200)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--train-only", action="store_true", help="make the runs of these seeds, and no table")
    parser.add_argument("--users", type=int, default=120)
    parser.add_argument("--negatives", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = Dataset.load(options.dataset)
    stores = {
        "text": FeatureStore.load(options.dataset / "features" / "text", data.catalogue),
        "truth": truth_store(data, options.dataset),
    }
    start = make_start(options, data, PROMPT)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    rows = {"start": ("start", start)}
    for label, (objective, preference, source) in ARMS.items():
        name = label.split(" (")[0].replace(" ", "-")
        for seed in seeds:
            out = make_arm(options, name, seed, objective, preference, {source: stores[source]})
            rows[f"{label}, {seed}"] = (label, out)
    if options.train_only:
        return
    sample = f"--protocol sampled --negatives {options.negatives} --users {options.users} --metrics auc,ndcg --ks 5"
    single, pooled = options.out / "by-seed", options.out / "table"
    if not single.exists():
        named = [f"{name}={folder}" for name, (_, folder) in rows.items()]
        run_command(["evaluate", *named, "--base", "start", *sample.split(), "--primary", "auc", "--out", str(single)])
    # Seeds learn from other positions, too, so that `palate evaluate` takes them for different models.
    groups: dict[str, Group] = {}
    for one in load_groups(single):
        label = rows[one.label][0]
        before = groups.get(label, Group(label, (), ()))
        seeds_so_far = (*before.seeds, len(before.seeds))
        groups[label] = Group(label, (*before.results, *one.results), seeds_so_far)
    comparison = compare(list(groups.values()), base="dpo", primary="auc", seed=0)
    save_comparison(pooled, comparison, list(groups.values()))
    print_table(main_table(comparison))
    for note in footnotes(comparison):
        print(f"- {note}")


if __name__ == "__main__":
    main()
