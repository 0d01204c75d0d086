"""The store: what a kill leaves, who may write, what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from palate.artefact import describe, kind_of
from palate.errors import PalateError
from palate.mllm.backends.base import Reply
from palate.mllm.summaries.items import ItemSummaries
from palate.mllm.summaries.store import SummaryStore, check_name, read_rows, rows_by_key, slug, store_folder

COUNTS = ("texts", "distinct", "checked", "repeating", "copying", "unchanged", "naming_unseen")
MADE = {"kind": "users", "strategy": "recurrent", "backend": {"model": "echo"}}


def written(folder: Path, *keys: str) -> None:
    with SummaryStore.open(folder, MADE) as store:
        for key in keys:
            store.add({"key": key, "text": f"text of {key}"})


def test_rows_are_on_disk_when_add_returns(tmp_path: Path) -> None:
    with SummaryStore.open(tmp_path / "s", MADE) as store:
        store.add({"key": "a", "text": "ä\nb"})
        assert [row["text"] for row in read_rows(tmp_path / "s/summaries.jsonl")] == ["ä\nb"]
        assert store.texts == {"a": "ä\nb"}


@pytest.mark.parametrize("tail", ['{"key": "b", "te', '{"key": "b", "text": "x"}', "\x00" * 70_000, "ä"[:1]])
def test_a_cut_off_last_line_is_no_row_and_is_written_over(tmp_path: Path, tail: str) -> None:
    written(tmp_path / "s", "a")
    path = tmp_path / "s/summaries.jsonl"
    whole = path.read_bytes()
    with path.open("ab") as file:
        file.write(tail.encode())
    assert list(rows_by_key(tmp_path / "s")) == ["a"]
    assert describe(tmp_path / "s")["last"] == "text of a"
    written(tmp_path / "s", "c")
    assert list(rows_by_key(tmp_path / "s")) == ["a", "c"]
    assert path.read_bytes().startswith(whole)


@pytest.mark.parametrize("cost", [None, 3, {}, {"requests": 1}, {"minutes": 1}, "all", [1]])
def test_a_damaged_cost_is_one_clear_error(tmp_path: Path, cost: object) -> None:
    written(tmp_path / "s", "a")
    path = tmp_path / "s/summaries.json"
    facts = json.loads(path.read_text())
    for damaged in (cost, {**facts["cost"], "seconds": cost}, {**facts["cost"], "more": 1}):
        path.write_text(json.dumps({**facts, "cost": damaged}))
        if damaged == facts["cost"] | {"seconds": 3}:
            continue  # three seconds are a cost
        with pytest.raises(PalateError, match=r"summaries.json is damaged: .* cost"):
            written(tmp_path / "s", "b")
    del facts["cost"]
    path.write_text(json.dumps(facts))
    with pytest.raises(PalateError, match=r"summaries.json is damaged: .* cost"):
        written(tmp_path / "s", "b")
    assert list(rows_by_key(tmp_path / "s")) == ["a"]


@pytest.mark.parametrize("backend", [None, [], {}, {"model": 7}])
def test_a_damaged_model_is_one_clear_error(tmp_path: Path, backend: object) -> None:
    written(tmp_path / "s", "a")
    path = tmp_path / "s/summaries.json"
    facts = json.loads(path.read_text())
    facts["made"]["backend"] = backend
    path.write_text(json.dumps(facts))
    with pytest.raises(PalateError, match=r"summaries.json is damaged: .* model"):
        written(tmp_path / "s", "b")


def test_a_file_of_one_cut_off_line_starts_again(tmp_path: Path) -> None:
    written(tmp_path / "s")
    (tmp_path / "s/summaries.jsonl").write_text('{"key": "a"')
    written(tmp_path / "s", "b")
    assert list(rows_by_key(tmp_path / "s")) == ["b"]


@pytest.mark.parametrize("line", ["no JSON", '{"key": 1, "text": "x"}', '{"key": "x"}', "[]", ""])
def test_a_broken_line_is_named(tmp_path: Path, line: str) -> None:
    written(tmp_path / "s", "a")
    with (tmp_path / "s/summaries.jsonl").open("a") as file:
        file.write(f'{line}\n{{"key": "b", "text": "x"}}\n')
    with pytest.raises(PalateError, match=r"summaries\.jsonl, line 2: not a summary"):
        rows_by_key(tmp_path / "s")
    with pytest.raises(PalateError, match="line 2"):
        written(tmp_path / "s", "c")


def test_two_writers_are_refused(tmp_path: Path) -> None:
    with SummaryStore.open(tmp_path / "s", MADE) as store:
        store.add({"key": "a", "text": "x"})
        with pytest.raises(PalateError, match="another process is writing"):
            written(tmp_path / "s", "b")
        assert list(rows_by_key(tmp_path / "s")) == ["a"], "reading is free"
    written(tmp_path / "s", "b")


_HOLD = """
import json, sys, time
from palate.mllm.summaries.store import SummaryStore
with SummaryStore.open(sys.argv[1], json.loads(sys.argv[2])) as store:
    store.add({"key": "a", "text": "x"})
    print("open", flush=True)
    time.sleep(600)
"""


def test_a_killed_writer_leaves_no_lock(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _HOLD, str(tmp_path / "s"), json.dumps(MADE)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        with (
            pytest.raises(PalateError, match="another process is writing"),
            SummaryStore.open(tmp_path / "s", MADE),
        ):
            pass
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    with SummaryStore.open(tmp_path / "s", MADE) as store:
        assert store.texts == {"a": "x"}


def test_summaries_made_in_another_way_want_another_name(tmp_path: Path) -> None:
    written(tmp_path / "s", "a")
    other = {**MADE, "backend": {"model": "other"}}
    with (
        pytest.raises(PalateError, match=r"another backend .*echo.* instead of .*other.*Choose another --name"),
        SummaryStore.open(tmp_path / "s", other),
    ):
        pass
    with (
        pytest.raises(PalateError, match=r"another prompt version \(null instead of 2\)"),
        SummaryStore.open(tmp_path / "s", {**MADE, "prompt_version": 2}),
    ):
        pass


def test_costs_add_up_over_runs(tmp_path: Path) -> None:
    for good in (True, False):
        with SummaryStore.open(tmp_path / "s", MADE) as store:
            store.spent(Reply("a", "x" if good else None, None, 100, 7, 3, 0.5), good)
    cost = json.loads((tmp_path / "s/summaries.json").read_text())["cost"]
    seconds = cost.pop("seconds")
    assert cost == {"requests": 2, "failed": 1, "attempts": 6, "prompt_tokens": 200, "new_tokens": 14}
    assert 0 <= seconds < 60


def test_the_cost_of_a_run_survives_most_of_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palate.mllm.summaries.store._FACTS_EVERY_SECONDS", 0.0)
    with SummaryStore.open(tmp_path / "s", MADE) as store:
        time.sleep(0.01)
        store.spent(Reply("a", "x", None, 100, 7, 1, 0.5), True)
        assert json.loads((tmp_path / "s/summaries.json").read_text())["cost"]["prompt_tokens"] == 100


def test_missing_is_listed_and_the_list_goes_when_nothing_is(tmp_path: Path) -> None:
    with SummaryStore.open(tmp_path / "s", MADE) as store:
        store.save_missing({"tired": 1}, [{"user": "u1", "error": "tired: x"}])
        assert describe(tmp_path / "s")["missing"] == {"tired": 1}
        store.save_missing({}, [])
    assert not (tmp_path / "s/missing.json").exists()
    assert "missing" not in describe(tmp_path / "s")


def test_counts_of_faults_add_up_over_runs_and_stores_without_them_load(tmp_path: Path) -> None:
    written(tmp_path / "s", "a", "b")
    path = tmp_path / "s/summaries.json"
    old = json.loads(path.read_text())
    assert old.pop("writing") == {**dict.fromkeys(COUNTS, 0), "texts": 2, "distinct": 2}
    path.write_text(json.dumps(old))  # as earlier versions wrote it
    for key, faults in (("c", ["repeats"]), ("d", ["copies", "unchanged"]), ("e", [])):
        with SummaryStore.open(tmp_path / "s", MADE) as store:
            store.add({"key": key, "text": "the same", "faults": faults})
    counts = {"texts": 5, "distinct": 3, "checked": 3, "repeating": 1, "copying": 1, "unchanged": 1, "naming_unseen": 0}
    assert describe(tmp_path / "s")["writing"] == counts
    with SummaryStore.open(tmp_path / "s", MADE) as store:
        assert store.writing.as_json() == counts


def test_info_knows_a_store(tmp_path: Path) -> None:
    written(tmp_path / "s", "a", "b")
    facts = describe(tmp_path / "s")
    assert kind_of(tmp_path / "s") == "summaries"
    assert facts["kind"] == "summaries of users"
    assert facts["summaries"] == 2
    assert facts["last"] == "text of b"
    assert facts["backend"] == {"model": "echo"}
    (tmp_path / "s/summaries.jsonl").write_text("rubbish\n")
    with pytest.raises(PalateError, match="damaged"):
        describe(tmp_path / "s")


@pytest.mark.parametrize("facts", ["{", "[]", "{}", '{"format": 9, "made": {}}'])
def test_damaged_facts_are_one_clear_error(tmp_path: Path, facts: str) -> None:
    (tmp_path / "summaries.json").write_text(facts)
    with pytest.raises(PalateError, match=r"summaries|damaged"):
        ItemSummaries.load(tmp_path)
    with pytest.raises(PalateError, match=r"summaries|damaged"):
        written(tmp_path, "a")


def test_rows_without_facts_are_not_guessed_at(tmp_path: Path) -> None:
    written(tmp_path / "s", "a")
    (tmp_path / "s/summaries.json").unlink()
    with pytest.raises(PalateError, match=r"has lost its summaries\.json"):
        written(tmp_path / "s", "b")
    with pytest.raises(PalateError, match="holds no summaries"):
        ItemSummaries.load(tmp_path / "s")


def test_summaries_of_users_are_none_of_items(tmp_path: Path) -> None:
    written(tmp_path / "s", "a")
    with pytest.raises(PalateError, match="of users, not of items"):
        ItemSummaries.load(tmp_path / "s")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "a b", ".hidden", "x" * 101, "a\x00"])
def test_a_name_cannot_leave_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(PalateError, match="is no name for a folder"):
        store_folder(tmp_path, "users", name)


@pytest.mark.parametrize("model", ["Qwen/Qwen2.5-VL-3B", "../../etc", "a b", "", "ü", "x" * 300])
def test_every_model_makes_a_name(model: str) -> None:
    assert check_name(f"{slug(model)}-recurrent")
