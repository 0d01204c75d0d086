"""Do descriptions of pictures name what the catalogue says of the items? Words of the catalogue's own fields, counted.

    palate summarise items data/hm --model embedded --name drawn
    python benchmarks/caption_words.py data/hm --summaries drawn --fields product_type_name colour_group_name

Of every description: how many words of each field's vocabulary it names, and how many of these are of its own item.
Beside it the same words against another item, drawn at random: most clothes are black. ``--only`` counts the items
alone that a warm-up held out to the end.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl
from preference_words import Words, count

from palate.data.dataset import Dataset
from palate.features.fields import values_of
from palate.mllm.summaries.store import rows_by_key, store_folder

_NO_WORDS = frozenset({"and", "other", "unknown"})  # of every catalogue, and of no item
_SHORTEST = 3


def words_of(text: str, same: Mapping[str, str]) -> list[str]:
    """The words of a text in lower case, the plural as the singular, each as what it is the same as.

    >>> words_of("Leggings/Tights in NAVY", {"navy": "blue"})
    ['legging', 'tight', 'blue']
    """
    found = [_singular(word) for word in re.findall(r"[^\W\d_]+", text.lower())]
    return [same.get(word, word) for word in found if len(word) >= _SHORTEST and word not in _NO_WORDS]


def _singular(word: str) -> str:
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def shown_words(frame: pl.DataFrame, field: str, same: Mapping[str, str]) -> Words:
    """The words of a field of each item, by item id."""
    return {
        item: frozenset(word for value in values for word in words_of(value, same))
        for item, values in zip(frame["item_id"].to_list(), values_of(frame[field]), strict=True)
    }


def described(rows: Sequence[Mapping[str, str]], same: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    """Descriptions in the words that are compared, each with its item."""
    return [(" ".join(words_of(row["text"], same)), [row["item"]]) for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--summaries", nargs="+", required=True, help="stores of item summaries, by name")
    parser.add_argument("--fields", nargs="+", required=True)
    parser.add_argument("--same", nargs="*", default=[], help="WORD=WORD: the first counts as the second")
    parser.add_argument("--only", type=Path, help="warm-up.json of a model: its held-out items")
    options = parser.parse_args()
    same = dict(pair.split("=", 1) for pair in options.same)
    frame = Dataset.load(options.dataset).catalogue.frame
    only = set(json.loads(options.only.read_text())["telling_items"]) if options.only else None
    print("| store | descriptions | field | named | of its item | of another | without | distinct |")
    print("|---|---|---|---|---|---|---|---|")
    for name in options.summaries:
        rows = list(rows_by_key(store_folder(options.dataset, "items", name)).values())
        texts = described([row for row in rows if only is None or row["item"] in only], same)
        for field in options.fields:
            found = count(texts, shown_words(frame, field, same))
            shares = (f"{part / max(1, found.named):.1%}" for part in (found.shown, found.chance))
            silent, distinct = (f"{part / len(texts):.1%}" for part in (found.silent, len({text for text, _ in texts})))
            cells = [name, f"{len(texts):,}", field, f"{found.named:,}", *shares, silent, distinct]
            print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
