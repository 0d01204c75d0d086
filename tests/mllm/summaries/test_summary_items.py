"""Item summaries: what is looked at, what is told apart, what is asked for once."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from PIL import Image
from summary_helpers import Echo, lines
from worlds import walking_shop

from palate.data.catalogue import Catalogue
from palate.errors import PalateError
from palate.mllm.backends.base import Check, Done, ModelRequest
from palate.mllm.prompts.items import Items
from palate.mllm.prompts.templates import BUILT_IN, Templates
from palate.mllm.summaries.items import ItemOptions, ItemSummaries, ItemWork
from palate.mllm.summaries.report import SummaryReport


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    """Five items: three pictures, of which one is broken and one is of an item without text, and two without."""
    root = tmp_path / "pictures"
    root.mkdir()
    for name, colour in (("a", (200, 0, 0)), ("b", (0, 0, 200))):
        Image.new("RGB", (20, 20), colour).save(root / f"{name}.png")
    images = ["a.png", "b.png", "gone.png", None, None]
    frame = walking_shop(items=5, image=images).catalogue.frame
    return Catalogue(frame.sort("item_id"), root)


def work(catalogue: Catalogue, backend: Echo, prompts: Path | None = None, **options: object) -> ItemWork:
    return ItemWork(Items.of(catalogue), Templates.load(prompts), ItemOptions(**options), backend.identity)


def write(catalogue: Catalogue, folder: Path, backend: Echo | None = None, **options: object) -> SummaryReport:
    backend = backend or Echo()
    return work(catalogue, backend, **options).write(folder, backend, progress=False)


def test_items_with_a_picture_get_a_summary_the_others_are_counted(catalogue: Catalogue, tmp_path: Path) -> None:
    backend = Echo()
    report = write(catalogue, tmp_path / "s", backend)
    assert (report.requested, report.written, report.missing) == (2, 2, [])
    assert report.skipped == {"without a picture": 2, "whose picture cannot be shown": 1}
    [listed] = json.loads((tmp_path / "s/missing.json").read_text())["missing"]
    assert listed["item"] == "i2"
    assert "gone.png does not exist" in listed["error"]
    assert [len(request.chat.pictures) for request in backend.requested] == [1, 1]
    assert "Thing 0" in backend.prompts[0]
    assert dict(ItemSummaries.load(tmp_path / "s")) == {
        "i0": "Preference number 1: likes things.",
        "i1": "Preference number 2: likes things.",
    }
    assert report.per_thousand is not None
    assert report.per_thousand["requests"] == 1000
    again = Echo()
    assert write(catalogue, tmp_path / "s", again).had == 2
    assert not again.requested


@pytest.mark.parametrize(("source", "requested", "pictures"), [("text", 5, 0), ("either", 5, 2)])
def test_items_can_be_described_from_their_text(
    catalogue: Catalogue, tmp_path: Path, source: str, requested: int, pictures: int
) -> None:
    backend = Echo()
    report = write(catalogue, tmp_path / "s", backend, source=source)
    assert (report.requested, report.written, report.skipped) == (requested, requested, {})
    assert sum(len(request.chat.pictures) for request in backend.requested) == pictures


def test_a_picture_of_new_content_is_described_anew_and_counts(catalogue: Catalogue, tmp_path: Path) -> None:
    write(catalogue, tmp_path / "s")
    Image.new("RGB", (20, 20), (0, 99, 0)).save(catalogue.root / "a.png")
    backend = Echo("echo")
    backend.requested += [None] * 7  # type: ignore[list-item]  # so that its answers differ
    assert write(catalogue, tmp_path / "s", backend).written == 1
    assert ItemSummaries.load(tmp_path / "s")["i0"] == "Preference number 8: likes things."
    assert len(ItemSummaries.load(tmp_path / "s")) == 2
    # And back: the old text is there, and counts again without a question.
    Image.new("RGB", (20, 20), (200, 0, 0)).save(catalogue.root / "a.png")
    backend = Echo()
    report = write(catalogue, tmp_path / "s", backend)
    assert (report.written, backend.requested) == (0, [])
    assert ItemSummaries.load(tmp_path / "s")["i0"] == "Preference number 1: likes things."


def test_items_of_one_content_share_a_request(catalogue: Catalogue, tmp_path: Path) -> None:
    frame = catalogue.frame.with_columns(title=catalogue.frame["title"].replace({"Thing 1": "Thing 0"}))
    frame = frame.with_columns(image=frame["image"].replace({"b.png": "a.png"}))
    backend = Echo()
    report = write(Catalogue(frame, catalogue.root), tmp_path / "s", backend)
    assert (report.requested, len(backend.requested)) == (2, 1)
    assert len(set(ItemSummaries.load(tmp_path / "s").values())) == 1
    assert len(ItemSummaries.load(tmp_path / "s")) == 2
    tokens = [json.loads(line).get("new_tokens") for line in lines(tmp_path / "s")]
    assert tokens[1] is None, "what a request has cost is told once"


def test_the_key_knows_picture_title_prompt_model_and_length(catalogue: Catalogue, tmp_path: Path) -> None:
    def keys(backend: Echo | None = None, **options: object) -> set[str]:
        return set(work(catalogue, backend or Echo(), **options).steps)

    before = keys()
    assert before == keys()
    (tmp_path / "p").mkdir()
    (tmp_path / "p/item.txt").write_text((BUILT_IN / "item.txt").read_text() + "\nBe brief.")
    assert not before & keys(prompts=tmp_path / "p")
    assert not before & keys(Echo("other"))
    assert not before & keys(max_new_tokens=7)
    Image.new("RGB", (20, 20), (0, 99, 0)).save(catalogue.root / "a.png")
    assert len(before & keys()) == 1


def test_a_path_out_of_the_root_is_not_followed(catalogue: Catalogue, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes((catalogue.root / "a.png").read_bytes())
    frame = catalogue.frame.with_columns(image=catalogue.frame["image"].replace({"b.png": "../secret.png"}))
    report = write(Catalogue(frame, catalogue.root), tmp_path / "s")
    assert report.written == 1
    assert {one.what["item"]: one.error[:40] for one in report.refused} == {
        "i1": "its picture cannot be shown: the picture",
        "i2": "its picture cannot be shown: " + str(catalogue.root)[:11],
    }
    listed = json.loads((tmp_path / "s/missing.json").read_text())["missing"]
    assert [row["item"] for row in listed] == ["i1", "i2"]


def test_what_failed_is_told_for_every_item_of_it(catalogue: Catalogue, tmp_path: Path) -> None:
    report = write(catalogue, tmp_path / "s", Echo(fail=[1]))
    assert [one.what for one in report.missing] == [{"item": "i0"}]
    assert report.as_json()["reasons"] == {"the server is tired": 1}
    assert write(catalogue, tmp_path / "s").missing == []


def test_a_limit_and_an_estimate(catalogue: Catalogue, tmp_path: Path) -> None:
    backend = Echo()
    plan = work(catalogue, backend).estimate({})
    assert (plan.requests, plan.pictures) == (2, 2)
    report = work(catalogue, backend).write(tmp_path / "s", backend, limit=1, progress=False)
    assert (report.written, report.left, report.missing) == (1, 1, [])


def test_bad_options_are_one_clear_error() -> None:
    with pytest.raises(PalateError, match="'source'"):
        ItemOptions.parse({"source": "sound"}, where="palate summarise items")


def test_what_failed_before_a_sudden_end_is_listed(catalogue: Catalogue, tmp_path: Path) -> None:
    class Dying(Echo):
        def work(self, requests: Iterable[ModelRequest], done: Done, check: Check | None = None) -> None:
            super().work(list(requests)[:1], done, check)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(catalogue, tmp_path / "s", Dying(fail=[1]))
    listed = json.loads((tmp_path / "s/missing.json").read_text())["missing"]
    assert [row["item"] for row in listed] == ["i0", "i2"]
    assert listed[0]["error"] == "the server is tired: request 1"
