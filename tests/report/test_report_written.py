"""The report of a language model: written preferences block by block, and a cascade in the gallery."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cascade_helpers import Slow, Table
from summary_helpers import Echo, steps_for
from worlds import walking_shop

from palate.cascade.cascade import Cascade
from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.mllm.summaries.store import store_folder
from palate.mllm.summaries.users import UserWork, cut_offs
from palate.report.gallery import GalleryEntry, choose, section, users_of
from palate.report.pictures import Pictures
from palate.report.written import stores_of


def saved(folder: Path, backend: Echo, name: str = "tastes", users: int = 3, strategy: str = "recurrent") -> Dataset:
    """A shop of six, with the preferences of the first few before their test items."""
    data = walking_shop()
    data.save(folder)
    data = Dataset.load(folder)
    chains = steps_for(data, backend, block=3, max_items=6, strategy=strategy)
    due = cut_offs(data, ["test"], np.arange(users))
    UserWork(chains, due, data.user_ids.to_list()).write(store_folder(folder, "users", name), backend, progress=False)
    return data


@pytest.mark.parametrize("strategy", ["recurrent", "direct"])
def test_stored_preferences_are_found_block_by_block_and_never_written(tmp_path: Path, strategy: str) -> None:
    backend = Echo()
    data = saved(tmp_path / "data", backend, strategy=strategy)
    requests = len(backend.requested)
    (one,), notes = stores_of([], data, None)
    assert notes == []
    assert (one.name, one.model) == ("tastes", "echo")
    cases = data.cases("test")
    assert one.cases(cases, data.catalogue.ids).tolist() == [True] * 3 + [False] * 3
    history = cases.histories[0].tolist()
    steps = one.of(history)
    blocks = [list(block) for block, _ in steps]
    assert [item for block in blocks for item in block] == history[-sum(map(len, blocks)) :]
    assert [len(block) for block in blocks] == ([3, 1] if strategy == "recurrent" else [4])
    assert all(text.startswith("Preference number") for _, text in steps)
    assert one.of(cases.histories[5].tolist()) == []
    assert len(backend.requested) == requests


def test_the_gallery_shows_them_as_text_with_what_is_new_marked(tmp_path: Path) -> None:
    data = saved(tmp_path / "data", Echo())
    path = store_folder(tmp_path / "data", "users", "tastes") / "summaries.jsonl"
    path.write_text(path.read_text().replace("likes things", "likes <script>alert(1)</script>"))  # by another hand
    stores, _ = stores_of([], data, ["tastes"])
    cases = data.cases("test")
    first = stores[0].cases(cases, data.catalogue.ids)
    some = cases.take(choose(cases, 3, 0, first))
    assert set(some.users.tolist()) == {0, 1, 2}  # who has one, before who has none
    users, _ = users_of(data, some, [], stores, k=5, exclude_seen=True)
    assert [len(user["preferences"][0]["steps"]) for user in users] == [2, 2, 2]
    page = section({"users": users, "notes": [], "info": ""}, Pictures(data.catalogue), {})
    assert page is not None
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert page.count("<details") == 3
    assert page.count('<details class="preference" open>') == 1  # the first one, for the hurried
    assert "<ins>" in page


def test_stores_that_cannot_be_read_are_told_or_refused(tmp_path: Path) -> None:
    data = saved(tmp_path / "data", Echo())
    with pytest.raises(PalateError, match="no summaries"):
        stores_of([], data, ["others"])
    (store_folder(tmp_path / "data", "users", "tastes") / "summaries.json").write_text("{}")
    found, notes = stores_of([], data, None)
    assert found == []
    assert "damaged" in notes[0]


def test_a_cascade_is_shown_with_the_second_stages_order(tmp_path: Path) -> None:
    data = walking_shop()
    cases = data.cases("test").take([0, 1])
    slow = Slow([-item for item in range(31)])
    cascade = Cascade(Table(list(range(31))), slow, depth=4)
    users, notes = users_of(data, cases, [GalleryEntry("cascade", lambda: cascade)], [], k=3, exclude_seen=True)
    assert notes == []
    for user, history in zip(users, cases.histories.to_lists(), strict=True):
        proposed = [item for item in range(30, 0, -1) if item not in history][:4]
        assert [item["index"] for item in user["models"][0]["items"]] == sorted(proposed)[:3]
    assert all(len(items) == 4 for _, items in slow.asked)
