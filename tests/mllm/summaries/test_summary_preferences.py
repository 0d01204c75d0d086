"""Preferences: looked up by content, kept with a run, written where they are missing and may be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from summary_helpers import Echo, lines, steps_for
from worlds import walking_shop

from palate.errors import PalateError
from palate.mllm.prompts.items import Items
from palate.mllm.prompts.templates import BUILT_IN, Templates
from palate.mllm.summaries.items import ItemOptions, ItemWork
from palate.mllm.summaries.preferences import Preferences
from palate.mllm.summaries.steps import UserOptions
from palate.mllm.summaries.users import UserWork, cut_offs

DATA = walking_shop(users=4, steps=8)
HISTORIES = [row.tolist() for row in DATA.cases("test").histories]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """The shop with the preferences of its test cases, in a store called ``mine``."""
    folder = tmp_path / "data"
    DATA.save(folder)
    backend = Echo()
    work = UserWork(steps_for(DATA, backend), cut_offs(DATA, ("test",)), DATA.user_ids.to_list())
    work.write(folder / "summaries/users/mine", backend, progress=False)
    return folder


def opened(dataset: Path) -> Preferences:
    return Preferences.open(dataset, "mine", DATA.catalogue)


def far_from_its_store(dataset: Path, run: Path) -> Preferences:
    """A run's own copy of the preferences of the test cases, saved in ``run``; the store is gone."""
    run.mkdir()
    preferences = opened(dataset)
    preferences.of(HISTORIES)
    preferences.items.save(run)
    preferences.save(run)
    (dataset / "summaries/users/mine/summaries.json").unlink()
    return Preferences.load(run, Items.load(run))


def test_a_history_is_found_by_its_content(dataset: Path) -> None:
    preferences = opened(dataset)
    texts = preferences.of(HISTORIES)
    last = {json.loads(line)["key"]: json.loads(line)["text"] for line in lines(dataset / "summaries/users/mine")}
    keys = [steps_for(DATA, Echo()).of(history)[-1].key for history in HISTORIES]
    assert texts == [last[key] for key in keys]
    assert len(set(texts)) == len(HISTORIES)
    assert preferences.of([HISTORIES[2], [], HISTORIES[0]]) == [texts[2], "", texts[0]]
    assert preferences.options == UserOptions()


def test_a_history_that_grew_has_no_preference_yet(dataset: Path) -> None:
    with pytest.raises(
        PalateError, match=r"1 of 2 histories have no written preference.*palate summarise users"
    ) as refused:
        opened(dataset).of([HISTORIES[0], [*HISTORIES[1], 1]])
    assert "--block 3 --max-items 18 --max-new-tokens 120 --name mine" in str(refused.value)


def test_a_run_keeps_what_it_asked_for_and_no_more(dataset: Path, tmp_path: Path) -> None:
    preferences = opened(dataset)
    first = preferences.of(HISTORIES[:2])
    run = tmp_path / "model"
    run.mkdir()
    preferences.items.save(run)
    preferences.templates.save(run / "prompts")
    preferences.save(run)
    assert len(lines(run)) == 6
    (dataset / "summaries/users/mine/summaries.json").unlink()  # the dataset is gone
    again = Preferences.load(run, Items.load(run))
    assert again.of(HISTORIES[:2]) == first
    assert again.options == preferences.options
    with pytest.raises(PalateError, match="1 of 1 histories"):
        again.of([HISTORIES[2]])
    # Saved once more without being asked for anything, it holds nothing.
    empty = tmp_path / "empty"
    empty.mkdir()
    Preferences.load(run, Items.load(run)).save(empty)
    assert lines(empty) == []


def test_a_run_finds_what_was_written_into_the_store_later(dataset: Path, tmp_path: Path) -> None:
    run = tmp_path / "model"
    run.mkdir()
    preferences = opened(dataset)
    preferences.items.save(run)
    preferences.save(run)
    loaded = Preferences.load(run, Items.load(run))
    longer = [*HISTORIES[1], 1]
    with pytest.raises(PalateError):
        loaded.of([longer])
    backend = Echo()
    helper = opened(dataset)
    helper.allow(lambda: backend)
    [text] = helper.of([longer])
    assert len(backend.requested) == 1
    assert loaded.of([longer]) == [text]
    assert len(lines(dataset / "summaries/users/mine")) == 13, "what is written beside a dataset stays there"


def test_a_run_may_write_for_a_history_never_seen(dataset: Path, tmp_path: Path) -> None:
    loaded = far_from_its_store(dataset, tmp_path / "model")
    backends: list[Echo] = []

    def opener() -> Echo:
        backends.append(Echo())
        return backends[-1]

    loaded.allow(opener)
    assert loaded.of(HISTORIES)
    assert not backends, "it is opened when something is missing, not before"
    assert len(set(loaded.of([[9, 8, 7, 6], [*HISTORIES[0], 9]]))) == 2
    loaded.of([[5, 5, 5]])
    assert len(backends) == 1
    assert len(backends[0].requested) == 4
    run = tmp_path / "model"
    loaded.save(run)
    assert Preferences.load(run, Items.load(run)).of([[5, 5, 5], [9, 8, 7, 6]])


def test_of_what_it_wrote_for_strangers_the_newest_texts_are_remembered(dataset: Path, tmp_path: Path) -> None:
    loaded = far_from_its_store(dataset, tmp_path / "model")
    backend = Echo()
    loaded.allow(lambda: backend)
    loaded.most_written = 2
    first, second, third = [9, 8, 7], [5, 5, 5], [6, 7, 8]
    texts = [loaded.of([history])[0] for history in (first, second, third)]
    assert len(backend.requested) == 3
    assert [loaded.stored(history)[-1][1] for history in (first, second, third)] == [None, *texts[1:]]
    assert loaded.of([first]) == ["Preference number 4: likes things."]  # written again
    assert len(backend.requested) == 4
    loaded.of(HISTORIES)  # what was written before is never forgotten
    assert len(backend.requested) == 4
    assert len(loaded.of([first, second, third])) == 3  # more at once than are remembered


def test_another_model_may_not_go_on(dataset: Path) -> None:
    preferences = opened(dataset)
    preferences.allow(lambda: Echo("other"))
    assert preferences.of(HISTORIES)
    with pytest.raises(PalateError, match=r'written by .*"echo".*not by .*"other"'):
        preferences.of([[1]])


def test_what_cannot_be_written_is_an_error(dataset: Path) -> None:
    preferences = opened(dataset)
    preferences.allow(lambda: Echo(fail=[2]))
    with pytest.raises(PalateError, match=r"2 of 3 steps .* the server is tired"):
        preferences.of([[9, 8, 7, 6, 5, 4, 3]])
    preferences.allow(Echo)
    assert preferences.of([[9, 8, 7, 6, 5, 4, 3]])


def test_other_prompts_are_refused(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p/user-next.txt").write_text((BUILT_IN / "user-next.txt").read_text() + "\nBe brief.")
    with pytest.raises(PalateError, match="another prompt 'user-next'"):
        Preferences.open(dataset, "mine", DATA.catalogue, Templates.load(tmp_path / "p"))


def test_item_summaries_come_along(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    DATA.save(folder)
    backend = Echo()
    templates = Templates.load()
    items = ItemWork(Items.of(DATA.catalogue), templates, ItemOptions(source="text"), backend.identity)
    items.write(folder / "summaries/items/words", backend, progress=False)
    from palate.mllm.summaries.items import ItemSummaries

    shown = Items.of(DATA.catalogue, ItemSummaries.load(folder / "summaries/items/words"))
    work = UserWork(steps_for(DATA, backend, items=shown), cut_offs(DATA, ("test",)), DATA.user_ids.to_list(), "words")
    work.write(folder / "summaries/users/mine", backend, progress=False)
    assert any("Preference number 1: likes things." in prompt for prompt in backend.prompts[30:])
    preferences = Preferences.open(folder, "mine", DATA.catalogue)
    assert all(preferences.of(HISTORIES))
    assert preferences.items.summary(1)


@pytest.mark.parametrize("change", [{"kind": "items"}, {"backend": None}, {"block": 0}, {"strategy": "none"}])
def test_damaged_facts_are_one_clear_error(dataset: Path, change: dict[str, object]) -> None:
    path = dataset / "summaries/users/mine/summaries.json"
    facts = json.loads(path.read_text())
    facts["made"] |= change
    path.write_text(json.dumps(facts))
    with pytest.raises(PalateError):
        opened(dataset)


def test_a_store_that_is_not_there_is_named(dataset: Path) -> None:
    with pytest.raises(PalateError, match=r"users/other holds no summaries"):
        Preferences.open(dataset, "other", DATA.catalogue)
