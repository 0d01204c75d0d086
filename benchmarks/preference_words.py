"""Do written preferences name what was in front of the writer? Words of the catalogue's own fields, counted.

    palate summarise users data/ml-100k --config recipes/transfer-ml-100k.toml --model embedded --strategy direct
    python benchmarks/preference_words.py data/ml-100k --summaries embedded-direct --fields genres --year year

Of the first preference of every chain (later ones also read the preference before them): how many values of the fields,
and how many decades, it names, and how many of these are of items that it was written from. Beside it the same words
against the items of another preference, drawn at random: a genre that most films have is named rightly by chance.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from palate.data.dataset import Dataset
from palate.features.fields import values_of
from palate.mllm.summaries.store import rows_by_key, store_folder
from palate.pretraining.words.times import DECADES, spellings

Words = dict[str, frozenset[str]]  # what an item shows, by item id


@dataclass
class Counts:
    """Of words of one sort.

    Attributes:
        named: in all texts.
        shown: of these, how many the items of the text have.
        chance: of these, how many the items of another text have.
        silent: texts that name none.
    """

    named: int = 0
    shown: int = 0
    chance: int = 0
    silent: int = 0


def field_words(dataset: Dataset, fields: Sequence[str]) -> Words:
    """The values of some fields of each item, in lower case."""
    frame = dataset.catalogue.frame
    columns = [values_of(frame[field]) for field in fields]
    return {
        item: frozenset(value.lower() for values in row for value in values)
        for item, *row in zip(frame["item_id"].to_list(), *columns, strict=True)
    }


def decade_words(dataset: Dataset, field: str) -> Words:
    """The decade of each item's year, in words."""
    frame = dataset.catalogue.frame
    years = [{str(year) for year in values} for values in values_of(frame[field])]
    items = frame["item_id"].to_list()
    return {
        item: frozenset(one for one in DECADES if spellings(one) & shown)
        for item, shown in zip(items, years, strict=True)
    }


def count(texts: Sequence[tuple[str, Sequence[str]]], words: Words, seed: int = 0) -> Counts:
    """What texts name of their items (ids) and of another text's."""
    known = frozenset().union(*words.values())
    patterns = {word: re.compile(rf"\b{re.escape(word)}\b") for word in known if word}
    others = np.random.default_rng(seed).integers(1, max(2, len(texts)), len(texts))
    found = Counts()
    for number, (text, items) in enumerate(texts):
        named = {word for word, pattern in patterns.items() if pattern.search(text.lower())}
        other = texts[(number + int(others[number])) % len(texts)][1]
        found.named += len(named)
        found.shown += len(named & _of(items, words))
        found.chance += len(named & _of(other, words))
        found.silent += not named
    return found


def _of(items: Sequence[str], words: Mapping[str, frozenset[str]]) -> frozenset[str]:
    return frozenset().union(*(words.get(item, frozenset()) for item in items))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--summaries", nargs="+", required=True, help="stores of user summaries, by name")
    parser.add_argument("--fields", nargs="+", required=True)
    parser.add_argument("--year", help="the field with the year")
    given = parser.parse_args()
    dataset = Dataset.load(given.dataset)
    sorts = {"values": field_words(dataset, given.fields)}
    if given.year:
        sorts["decades"] = decade_words(dataset, given.year)
    print("| store | texts | words | named | of its items | of another's | texts without |")
    print("|---|---|---|---|---|---|---|")
    for name in given.summaries:
        rows = rows_by_key(store_folder(given.dataset, "users", name)).values()
        texts = [(row["text"], row["items"]) for row in rows if row.get("after") is None]
        for sort, words in sorts.items():
            found = count(texts, words)
            shares = (f"{part / max(1, found.named):.1%}" for part in (found.shown, found.chance))
            cells = [name, f"{len(texts):,}", sort, f"{found.named:,}", *shares, f"{found.silent / len(texts):.1%}"]
            print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
