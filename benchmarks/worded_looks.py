"""Do right words or equal words matter to a model that reads descriptions of pictures? Writers made on purpose.

    python benchmarks/worded_looks.py data/hm --fields product_type_name colour_group_name --right 1 0.6
    palate compare recipes/worded-looks-hm.toml --out runs/worded --threads 1

Writes a store of item summaries for each accuracy and each wording. A description names an item's kind and its colour;
each of the two is right with this probability, and otherwise that of another item, drawn at random. ``one`` wording is
"Trousers. Black." for all items, ``many`` is one of six, drawn for each item. Errors and wordings are drawn by a seed,
and the same items have wrong words in both wordings.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from palate.data.dataset import Dataset
from palate.features.fields import values_of
from palate.mllm.summaries.store import SummaryStore, store_folder
from palate.storage.files import digest

WORDINGS = (
    "{kind}. {colour}.",
    "{kind} in {colour}",
    "{kind} in {colour}, plain",
    "A {colour} one: {kind}.",
    "{colour}, {kind}",
    "Shown is {kind}, which is {colour}.",
)


def with_errors(values: list[str], right: float, random: np.random.Generator) -> list[str]:
    """Each value with probability ``right``, else that of another item, drawn at random (which may be the same)."""
    others = random.permutation(len(values))
    wrong = random.random(len(values)) >= right
    return [values[other] if swap else value for value, other, swap in zip(values, others, wrong, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--fields", nargs=2, required=True, metavar=("KIND", "COLOUR"))
    parser.add_argument("--right", nargs="+", type=float, default=[1.0, 0.6])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    catalogue = Dataset.load(options.dataset).catalogue
    kinds, colours = (
        [", ".join(value) or "Unknown" for value in values_of(catalogue.frame[name])] for name in options.fields
    )
    items = catalogue.frame["item_id"].to_list()
    for right in options.right:
        random = np.random.default_rng(options.seed)
        named = list(zip(with_errors(kinds, right, random), with_errors(colours, right, random), strict=True))
        drawn = random.integers(len(WORDINGS), size=len(items))
        for wording in ("one", "many"):
            name = f"{wording}-{right * 100:.0f}"
            made = {"kind": "items", "backend": {"model": "made on purpose"}, "right": right, "seed": options.seed}
            with SummaryStore.open(store_folder(options.dataset, "items", name), made | {"wording": wording}) as store:
                for item, (kind, colour), number in zip(items, named, drawn, strict=True):
                    text = WORDINGS[number if wording == "many" else 0].format(kind=kind, colour=colour)
                    store.add({"key": digest("item", item, text), "text": text, "item": item})
            print(f"{name}: {len(items):,} descriptions")


if __name__ == "__main__":
    main()
