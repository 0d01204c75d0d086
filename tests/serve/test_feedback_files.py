"""The folder of feedback: files are whole, nothing is lost when a process is killed, and a full disk stops nothing."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from palate.errors import PalateError
from palate.serve.feedback.events import Event
from palate.serve.feedback.journal import Journal
from palate.serve.feedback.recorder import NotKept, Recorder
from palate.serve.telemetry import Telemetry


def _shown(request: str, *items: str) -> Event:
    return Event(1_700_000_000_000, request, "anna", "best", "shown", None, items, list(range(1, len(items) + 1)))


def _taken(request: str | None, item: str, position: int | None = 2) -> Event:
    return Event(1_700_000_000_500, request, "anna", "best", "taken", "click", [item], [position])


def _rows(folder: Path) -> pl.DataFrame:
    return pl.concat(pl.read_parquet(path) for path in sorted(folder.glob("*.parquet")))


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _started(folder: Path, **more: float) -> Recorder:
    recorder = Recorder(folder, Telemetry(), flush=0.01, **more)  # type: ignore[arg-type]
    recorder.start()
    return recorder


def test_rows_are_what_was_shown_and_taken(tmp_path: Path) -> None:
    recorder = _started(tmp_path)
    recorder.shown(_shown("r1", "a", "b"))
    recorder.taken(_taken("r1", "b")).result(10)
    recorder.taken(_taken(None, "z", None)).result(10)
    assert [path.suffix for path in tmp_path.iterdir()] == [".jsonl"]
    recorder.close()
    (path,) = tmp_path.iterdir()
    assert path.name[:2] == "20"
    assert path.stem.endswith(f"-{os.getpid()}")
    rows = pl.read_parquet(path)
    assert dict(rows.schema) == {
        "time": pl.Int64, "request": pl.String, "user": pl.String, "item": pl.String, "position": pl.Int32,
        "variant": pl.String, "event": pl.String, "kind": pl.String,
    }  # fmt: skip
    assert rows.select("request", "item", "position", "event", "kind").rows() == [
        ("r1", "a", 1, "shown", None), ("r1", "b", 2, "shown", None),
        ("r1", "b", 2, "taken", "click"), (None, "z", None, "taken", "click"),
    ]  # fmt: skip


def test_files_turn_by_size_and_age(tmp_path: Path) -> None:
    for name, more in (("size", {"size": 10}), ("age", {"seconds": 0.05})):
        recorder = _started(tmp_path / name, **more)
        for number in (1, 2):
            recorder.shown(_shown(f"r{number}", "a"))
            _until(lambda name=name, number=number: len([*(tmp_path / name).glob("*.parquet")]) == number)  # type: ignore[misc]
        recorder.close()
        assert sorted(_rows(tmp_path / name)["request"]) == ["r1", "r2"]
        assert not [*(tmp_path / name).glob("*.jsonl")]


def test_an_idle_service_leaves_no_files(tmp_path: Path) -> None:
    recorder = _started(tmp_path, seconds=0.02)
    time.sleep(0.1)
    recorder.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_a_killed_process_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    program = f"""
import sys, time
sys.path[:0] = {sys.path!r}
from pathlib import Path
from palate.serve.feedback.events import Event
from palate.serve.feedback.recorder import Recorder
from palate.serve.telemetry import Telemetry
recorder = Recorder(Path({str(tmp_path)!r}), Telemetry())
recorder.start()
for number in range(100):
    recorder.shown(Event(1, f"r{{number}}", None, "best", "shown", None, ["a", "b"], [1, 2]))
recorder.taken(Event(1, "r5", None, "best", "taken", "click", ["a"], [1])).result(30)
print("kept", flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "kept\n"
    other = _started(tmp_path)  # a second process in the same folder leaves the first one's journal alone
    other.close()
    assert len([*tmp_path.glob("*.jsonl")]) == 1
    process.send_signal(signal.SIGKILL)
    process.wait()
    (journal,) = tmp_path.glob("*.jsonl")
    with journal.open("a") as file:
        file.write('{"time": 1, "requ')  # as if it had been killed while it wrote
    recorder = _started(tmp_path)
    recorder.close()
    rows = _rows(tmp_path)
    assert len(rows) == 201
    assert rows.filter(event="taken")["request"].to_list() == ["r5"]
    assert {path.suffix for path in tmp_path.iterdir()} == {".parquet"}


def test_two_journals_of_one_second_have_two_names(tmp_path: Path) -> None:
    first, second = Journal.create(tmp_path), Journal.create(tmp_path)
    first.append(_shown("r1", "a").line())
    first.to_parquet()
    third = Journal.create(tmp_path)
    assert len({first.path, second.path, third.path}) == 3
    third.append(_shown("r2", "a").line())
    for one in (second, third):
        one.to_parquet()
    assert sorted(_rows(tmp_path)["request"].to_list()) == ["r1", "r2"]


def test_a_full_disk_stops_nothing_and_is_counted_once_a_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palate.serve.feedback.recorder._PAUSE_SECONDS", 0.05)
    recorder = _started(tmp_path)
    full, write = [True], os.write

    def half(opened: int, data: bytes) -> int:
        if not full[0]:
            return write(opened, data)
        if len(data) < 50:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(opened, data[: len(data) // 2])

    monkeypatch.setattr("palate.serve.feedback.journal.os.write", half)
    recorder.shown(_shown("r1", "a", "b"))
    with pytest.raises(NotKept):
        recorder.taken(_taken("r1", "b")).result(10)
    assert "palate_feedback_errors_total 0.0" not in recorder.telemetry.text().decode()
    full[0] = False
    _until(lambda: not recorder._queue)
    recorder.taken(_taken("r1", "b")).result(10)
    recorder.close()
    assert _rows(tmp_path)["event"].to_list() == ["shown", "shown", "taken"]


def test_beyond_a_limit_what_waits_is_lost_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palate.serve.feedback.recorder._MOST_WAITING", 1)
    recorder = Recorder(tmp_path, Telemetry())  # not started: nothing is written
    recorder.shown(_shown("r1", "a"))
    recorder.shown(_shown("r2", "a", "b"))
    assert "palate_feedback_lost_total 2.0" in recorder.telemetry.text().decode()


def test_a_folder_that_is_moved_away_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palate.serve.feedback.recorder._PAUSE_SECONDS", 0.02)
    recorder = _started(tmp_path / "feedback")
    recorder.taken(_taken("r1", "a")).result(10)
    (tmp_path / "feedback").rename(tmp_path / "moved")
    recorder.shown(_shown("r2", "a"))
    _until(lambda: not recorder._queue)
    recorder.close()
    assert _rows(tmp_path / "feedback")["request"].to_list() == ["r2"]
    _started(tmp_path / "moved").close()
    assert _rows(tmp_path / "moved")["request"].to_list() == ["r1"]


def test_a_damaged_journal_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / "2026-01-01T000000-1.jsonl").write_text("this is no journal\n")
    recorder = _started(tmp_path)
    recorder.close()
    assert [path.name for path in tmp_path.iterdir()] == ["2026-01-01T000000-1.damaged"]


def test_a_folder_that_cannot_be_written_to_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PalateError, match="feedback cannot be kept in"):
        Recorder(tmp_path / "file", Telemetry()).start()
