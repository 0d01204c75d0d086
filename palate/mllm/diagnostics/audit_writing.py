"""The audit of a store of summaries: texts that repeat themselves, copy the prompt, or name what it did not show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palate.console import Table
from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.mllm.prompts.items import Items
from palate.mllm.summaries.counts import WritingCounts
from palate.mllm.summaries.faults import FAULTS, TextCheck, TextFaults
from palate.mllm.summaries.items import ItemSummaries
from palate.mllm.summaries.store import Row, read_facts, rows_by_key, store_folder
from palate.mllm.summaries.vocabulary import Vocabulary
from palate.progress import track

_EXAMPLES = 3
_LETTERS = 300  # of an example, at most
LABELS = {
    "repeats": "repeat themselves",
    "copies": "copy the prompt",
    "unchanged": "... of these, the preference so far, word for word",
    "unseen": "name what was not shown",
}


@dataclass(frozen=True)
class Example:
    """A text with a fault.

    Attributes:
        key: of its row in the store.
        items: ids of the items that it was shown.
        text: shortened.
        names: titles that it quotes, or what it names without having been shown it.
    """

    key: str
    items: tuple[str, ...]
    text: str
    names: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {"key": self.key, "items": list(self.items), "text": self.text, "names": list(self.names)}


@dataclass(frozen=True)
class WritingReport:
    """What an audit of a store found.

    Attributes:
        folder: of the store.
        kind: ``users`` or ``items``.
        counts: of its texts.
        mean_words: mean length of a text in words.
        examples: a few texts by fault, in the order of the store.
    """

    folder: Path
    kind: str
    counts: WritingCounts
    mean_words: float
    examples: dict[str, list[Example]]

    @property
    def _by_fault(self) -> dict[str, int]:
        counts = self.counts
        numbers = (counts.repeating, counts.copying, counts.unchanged, counts.naming_unseen)
        return dict(zip(FAULTS, numbers, strict=True))

    def to_json(self) -> dict[str, Any]:
        counts = self.counts
        return {
            "store": str(self.folder),
            "kind": self.kind,
            "counts": counts.as_json(),
            "distinct_share": counts.distinct / counts.texts,
            "shares": {name: count / max(1, counts.checked) for name, count in self._by_fault.items()},
            "mean_words": self.mean_words,
            "examples": {name: [one.as_json() for one in found] for name, found in self.examples.items()},
        }

    def table(self) -> Table:
        counts = self.counts
        rows = [["distinct", f"{counts.distinct:,}", f"{counts.distinct / counts.texts:.1%}"]]
        for name, count in self._by_fault.items():
            rows.append([LABELS[name], f"{count:,}", f"{count / counts.checked:.1%}" if counts.checked else ""])
        return Table(f"{self.folder.name}: {counts.texts:,} texts of {self.kind}", ["texts", "", "share"], rows)

    def notes(self) -> list[str]:
        """Lines for people: the length, what could not be checked, examples."""
        lines = [f"A text has {self.mean_words:.1f} words on average."]
        if lost := self.counts.texts - self.counts.checked:
            lines.append(f"{lost:,} could not be checked: the dataset or the store lacks what their prompts showed.")
        for name, found in self.examples.items():
            label = LABELS[name].removeprefix("... of these, ")
            for one in found:
                which = f" ({', '.join(one.names)})" if one.names else ""
                lines.append(f"{label}{which}: {one.text}")
        return lines


def audit_summaries(dataset: Dataset, folder: Path, kind: str, *, progress: bool = True) -> WritingReport:
    """Read every text of a store and count its faults; no model is asked.

    Args:
        dataset: the one that the texts were written of.
        folder: of the store.
        kind: ``users`` or ``items``.

    Raises:
        PalateError: no such store, a store of another kind, or one without texts.
    """
    made = read_facts(folder)["made"]
    if made.get("kind") != kind:
        raise PalateError(f"{folder} holds summaries of {made.get('kind')}, not of {kind}", "Give another store.")
    rows = rows_by_key(folder)
    if not rows:
        raise PalateError(f"{folder} holds no texts yet", f"Write some: palate summarise {kind} DATASET.")
    check = TextCheck(_items_of(dataset, folder, made), Vocabulary(dataset.catalogue))
    found: dict[str, TextFaults] = {}
    examples: dict[str, list[Example]] = {}
    for row in track(list(rows.values()), "Texts") if progress else rows.values():
        faults = faults_of(row, rows, check, dataset.catalogue.index)
        if faults is None:
            continue
        found[row["key"]] = faults
        for name in faults.names:
            if len(some := examples.setdefault(name, [])) < _EXAMPLES:
                some.append(_example(row, faults, name))
    texts = {key: row["text"] for key, row in rows.items()}
    return WritingReport(
        folder=folder,
        kind=kind,
        counts=WritingCounts.of(texts, {key: faults.names for key, faults in found.items()}),
        mean_words=sum(one.words for one in found.values()) / max(1, len(found)),
        examples={name: examples[name] for name in FAULTS if name in examples},
    )


def faults_of(row: Row, rows: Mapping[str, Row], check: TextCheck, index: Mapping[str, int]) -> TextFaults | None:
    """The faults of a row's text; None where an item or the preference so far is not there any more.

    Args:
        rows: of the store, by key.
        index: item id -> index.
    """
    items = [index.get(one) for one in _ids(row)]
    known = [item for item in items if item is not None]
    after = row.get("after")
    if not known or len(known) < len(items) or (after is not None and after not in rows):
        return None
    if "item" in row:
        return check.item(row["text"], known[0])
    return check.preference(row["text"], known, None if after is None else rows[after]["text"])


def _ids(row: Row) -> Sequence[str]:
    """Ids of the items that a row's prompt showed."""
    items = [row["item"]] if "item" in row else row.get("items")
    return [str(one) for one in items] if isinstance(items, list) else []


def _items_of(dataset: Dataset, folder: Path, made: Mapping[str, Any]) -> Items:
    """The items as the prompts of a store showed them."""
    summaries = made.get("item_summaries")
    name = str(summaries) if summaries else None
    # DATASET/summaries/users/NAME -> DATASET
    written = ItemSummaries.load(store_folder(folder.parents[2], "items", name)) if name else None
    fields = made.get("fields")
    return Items.of(dataset.catalogue, written, fields if isinstance(fields, list) else None)


def _example(row: Row, faults: TextFaults, fault: str) -> Example:
    names = {"copies": faults.quoted, "unseen": faults.unseen}.get(fault, ())
    text = " ".join(row["text"].split())
    text = text if len(text) <= _LETTERS else f"{text[:_LETTERS].rstrip()}..."
    return Example(row["key"], tuple(_ids(row)), text, names)
