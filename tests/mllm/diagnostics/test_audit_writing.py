"""``palate mllm audit --summaries``: written texts are read again, and their faults counted with examples."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from summary_helpers import Echo, lines, steps_for
from worlds import walking_shop

from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.mllm.backends.base import Check, Done, ModelRequest
from palate.mllm.diagnostics.audit_writing import audit_summaries
from palate.mllm.prompts.items import Items
from palate.mllm.prompts.templates import Templates
from palate.mllm.summaries.items import ItemOptions, ItemWork
from palate.mllm.summaries.store import store_folder
from palate.mllm.summaries.users import UserWork, cut_offs
from palate.mllm.summaries.vocabulary import Vocabulary

Palate = Callable[..., tuple[int, str, str]]


class Writer(Echo):
    """Answers the texts of a list, one after another."""

    def __init__(self, texts: Iterable[str]) -> None:
        super().__init__()
        self.texts = list(texts)

    def work(self, requests: Iterable[ModelRequest], done: Done, check: Check | None = None) -> None:
        texts = iter(self.texts)
        super().work(requests, lambda reply: done(type(reply)(reply.key, next(texts))), check)


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """Two users who walk through a shop: one of red things alone, one of blue and green ones."""
    colours = ["red"] * 3 + ["blue"] * 3 + ["green"] * 24
    walking_shop(users=2, steps=5, brand=["Wren"] * 29 + ["Casa Mira"], colour=colours).save(tmp_path / "data")
    return Dataset.load(tmp_path / "data")


def write(data: Dataset, texts: Iterable[str], checked: bool = True) -> Path:
    """``users/tastes``: two steps per user, in blocks of three items."""
    assert data.folder is not None
    folder = store_folder(data.folder, "users", "tastes")
    writer = Writer(texts)
    steps = steps_for(data, writer)
    vocabulary = Vocabulary(data.catalogue) if checked else None
    work = UserWork(steps, cut_offs(data, ("test",)), data.user_ids.to_list(), None, vocabulary)
    assert not work.write(folder, writer, progress=False).missing
    return folder


TEXTS = (
    "Likes plain red things.",  # u0, Thing 0, 1 and 2
    "Likes plain red things by Casa Mira.",  # u1, Thing 3, 4 and 5: blue
    "Likes plain red things.",  # u0, Thing 3
    "Likes Thing 6 and likes Thing 6 and likes Thing 6 and likes.",  # u1, Thing 6
)


def test_texts_are_counted_as_they_are_written_and_again_by_the_audit(data: Dataset) -> None:
    folder = write(data, TEXTS)
    assert [json.loads(line)["faults"] for line in lines(folder)] == [
        [],
        ["unseen"],
        ["copies", "unchanged"],
        ["repeats", "copies"],
    ]
    kept = json.loads((folder / "summaries.json").read_text())["writing"]
    report = audit_summaries(data, folder, "users", progress=False)
    assert report.counts.as_json() == kept
    assert kept == {
        "texts": 4, "distinct": 3, "checked": 4, "repeating": 1, "copying": 2, "unchanged": 1, "naming_unseen": 1
    }  # fmt: skip
    facts = report.to_json()
    assert facts["distinct_share"] == 0.75
    assert facts["shares"] == {"repeats": 0.25, "copies": 0.5, "unchanged": 0.25, "unseen": 0.25}
    assert facts["mean_words"] == (4 + 7 + 4 + 13) / 4
    [unseen] = facts["examples"]["unseen"]
    assert (unseen["items"], unseen["names"]) == (["i3", "i4", "i5"], ["red", "Casa Mira"])
    assert facts["examples"]["copies"][1]["names"] == ["Thing 6"]


def test_texts_that_nobody_checked_are_checked_by_the_audit(data: Dataset) -> None:
    folder = write(data, TEXTS, checked=False)
    assert json.loads((folder / "summaries.json").read_text())["writing"]["checked"] == 0
    assert audit_summaries(data, folder, "users", progress=False).counts.checked == 4
    # What the store or the dataset lacks cannot be checked, and is no fault.
    (folder / "summaries.jsonl").write_text("".join(f"{line}\n" for line in lines(folder)[1:]))
    report = audit_summaries(data, folder, "users", progress=False)
    assert (report.counts.texts, report.counts.checked) == (3, 2)
    assert any("1 could not be checked" in note for note in report.notes())


def test_item_summaries(data: Dataset) -> None:
    assert data.folder is not None
    folder = store_folder(data.folder, "items", "words")
    writer = Writer(["Thing 29 is a green one by Casa Mira."] * 30)
    options = ItemOptions(source="text")
    items = Items.of(data.catalogue)
    work = ItemWork(items, Templates.load(), options, writer.identity, Vocabulary(data.catalogue))
    counts = work.write(folder, writer, progress=False).writing
    # Of every other item, this is another one's title, and mostly another's colour.
    assert (counts.texts, counts.distinct, counts.naming_unseen, counts.copying) == (30, 1, 29, 0)
    assert audit_summaries(data, folder, "items", progress=False).counts == counts


def test_the_command(palate: Palate, data: Dataset) -> None:
    write(data, TEXTS)
    code, out, _ = palate("mllm", "audit", data.folder, "--summaries", "tastes")
    assert code == 0
    assert "tastes: 4 texts of users" in out
    assert "name what was not shown (red, Casa Mira): Likes plain red things by Casa Mira." in out
    code, out, _ = palate("mllm", "audit", data.folder, "--summaries", "tastes", "--json")
    assert (code, json.loads(out)["counts"]["copying"]) == (0, 2)
    for words, message in (
        ((), "is a dataset"),
        (("--summaries", "gone"), "holds no summaries"),
        (("--summaries", "tastes", "--item-summaries", "words"), "name two stores"),
        (("--summaries", "tastes", "--negatives", 3), "--negatives is an option of the audit of a run"),
    ):
        code, _, err = palate("mllm", "audit", data.folder, *words)
        assert code == 2
        assert message in err


def test_what_cannot_be_audited(data: Dataset) -> None:
    folder = write(data, TEXTS)
    with pytest.raises(PalateError, match="summaries of users, not of items"):
        audit_summaries(data, folder, "items", progress=False)
    (folder / "summaries.jsonl").write_text("")
    with pytest.raises(PalateError, match="holds no texts yet"):
        audit_summaries(data, folder, "users", progress=False)
