"""Feedback: read with clear errors, joined without counting twice, kept only as far as training may know it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import typer
from typer.testing import CliRunner

from palate.artefact import describe
from palate.cli.prepare import prepare as prepare_command
from palate.data.append import append
from palate.data.dataset import Dataset
from palate.data.doctor import Level, examine
from palate.data.folder import IMPRESSIONS
from palate.data.frames import from_frames
from palate.errors import PalateError

DAY = 86_400_000
NOON = 18_628 * DAY + DAY // 2  # of 2021-01-01
Event = tuple[float, str | None, str | None, str, int | None, str, str | None]
# Ann takes a..d on days 1, 3, 5, 7 (a and b train, c validates, d tests); Bob takes everything, so all items survive.
LOG = [("ann", item, day) for item, day in zip("abcd", (1, 3, 5, 7), strict=True)]
LOG += [("bob", item, day) for day, item in enumerate("abcdefgh", 1)]


def shown(day: float, request: str, items: str, user: str | None = "ann") -> list[Event]:
    return [(day, request, user, item, place, "shown", None) for place, item in enumerate(items, 1)]


def taken(day: float, request: str | None, item: str, kind: str = "purchase", user: str | None = "ann") -> Event:
    return (day, request, user, item, None, "taken", kind)


def write(folder: Path, events: list[Event], name: str = "2026-01-01T000000-1.parquet") -> Path:
    folder.mkdir(exist_ok=True)
    schema = {"time": pl.Float64, "request": pl.String, "user": pl.String, "item": pl.String, "position": pl.Int32}
    frame = pl.DataFrame(events, schema={**schema, "event": pl.String, "kind": pl.String}, orient="row")
    frame = frame.with_columns((pl.col("time") * DAY + NOON).cast(pl.Int64), variant=pl.lit("m"))
    frame.write_parquet(folder / name)
    return folder


def made(folder: Path, log: list[tuple[str, str, float]] = LOG, **options: Any) -> Dataset:
    frame = pl.DataFrame(log, schema=["user", "item", "day"], orient="row", strict=False)
    frame = frame.with_columns(time=(pl.col("day") * DAY + NOON).cast(pl.Int64))
    return from_frames(frame.drop("day"), timestamp="time", feedback=folder, **options)


def rows(dataset: Dataset) -> list[tuple[str, str, bool, int, int]]:
    """User, item, taken, request, position."""
    found = dataset.impressions
    assert found is not None
    names = [dataset.user_ids[int(user)] for user in found.users]
    items = [dataset.catalogue.ids[int(item)] for item in found.items]
    columns = (names, items, found.taken.tolist(), found.requests.tolist(), found.positions.tolist())
    return list(zip(*columns, strict=True))


def left_out(dataset: Dataset) -> dict[str, int]:
    return {why: count for why, count in dataset.manifest["feedback"]["left_out"].items() if count}


def test_shown_and_not_taken_is_a_negative_of_its_request(tmp_path: Path) -> None:
    events = [*shown(2.9, "r2", "ebf"), taken(3, "r2", "b"), *shown(0.9, "r1", "ga"), taken(1, "r1", "a")]
    dataset = made(write(tmp_path / "f", events))
    assert rows(dataset) == [
        ("ann", "g", False, 0, 1),
        ("ann", "a", True, 0, 2),
        ("ann", "e", False, 1, 1),
        ("ann", "b", True, 1, 2),
        ("ann", "f", False, 1, 3),
    ]
    assert left_out(dataset) == {}
    assert dataset.manifest["feedback"]["kept"] == {"shown": 5, "taken": 2, "requests": 2, "users": 1}
    assert dataset.impressions is not None
    assert dataset.impressions.above_taken.tolist() == [True, False, True, False, False]
    assert dataset.impressions.times.tolist() == [int(d * DAY + NOON) for d in (0.9, 0.9, 2.9, 2.9, 2.9)]


def test_nothing_later_than_the_last_training_interaction(tmp_path: Path) -> None:
    late = [*shown(3.1, "late", "e"), *shown(2.9, "r2", "bfc"), taken(3, "r2", "b"), taken(5, "r2", "c")]
    dataset = made(write(tmp_path / "f", [*late, *shown(2.5, "r1", "ec")]))
    # r2 went on until c, which validates: rejecting f beside it would give c away. In r1 c is a negative as any other.
    assert rows(dataset) == [("ann", "e", False, 0, 1), ("ann", "c", False, 0, 2)]
    assert left_out(dataset) == {"too_late": 4}


def test_what_the_user_took_at_another_time_is_no_negative(tmp_path: Path) -> None:
    events = [*shown(1.5, "r1", "abgf"), *shown(2.5, "r2", "h"), taken(2.6, "other", "f"), taken(1, None, "g")]
    dataset = made(write(tmp_path / "f", events))
    assert rows(dataset) == [("ann", "h", False, 0, 1)]
    assert left_out(dataset) == {"taken": 4}


def test_the_log_says_what_was_taken_where_no_event_does(tmp_path: Path) -> None:
    events = [*shown(0.9, "r1", "ga"), *shown(2.9, "r2", "eg"), taken(2.95, None, "e")]
    dataset = made(write(tmp_path / "f", events))
    assert [(item, took) for _, item, took, _, _ in rows(dataset)] == [
        ("g", False),
        ("a", True),
        ("e", True),
        ("g", False),
    ]


def test_dates_in_the_log_stand_for_their_day(tmp_path: Path) -> None:
    log = [(user, item, day - 0.5) for user, item, day in LOG]  # midnight
    events = [*shown(3.2, "r", "eb"), *shown(4.7, "late", "f")]
    dataset = made(write(tmp_path / "f", events), log)
    assert rows(dataset) == [("ann", "e", False, 0, 1), ("ann", "b", True, 0, 2)]
    assert left_out(dataset) == {"too_late": 1}


def test_strangers_and_repetitions_are_counted(tmp_path: Path) -> None:
    events = [*shown(1, "r1", "eg", None), *shown(1, "r2", "e", "cat"), *shown(1, "r3", "gzg"), taken(1, "r3", "h")]
    dataset = made(write(tmp_path / "f", events))
    assert rows(dataset) == [("ann", "g", False, 0, 1)]
    assert left_out(dataset) == {"anonymous": 2, "outside": 2, "repeated": 1}
    assert dataset.manifest["feedback"]["taken_unshown"] == 1


def test_the_journal_of_a_service_waits_and_takers_are_known_by_their_request(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    (folder / "2026-01-01T010000-1.jsonl").write_text("{}")
    with pytest.raises(PalateError, match="only the journal of a service"):
        made(folder)
    write(folder, [*shown(0.9, "r1", "gha"), taken(1, "r1", "a", user=None)])
    write(folder, [*shown(2.9, "r2", "eb"), taken(3, "r2", "b", user=None)], "2026-01-02T000000-1.parquet")
    dataset = made(folder)
    assert [row[2:4] for row in rows(dataset)] == [(False, 0), (False, 0), (True, 0), (False, 1), (True, 1)]
    assert dataset.manifest["feedback"]["files"] == 2


def test_what_has_joined_does_not_leave_with_its_file(tmp_path: Path) -> None:
    old, new = "2026-01-01T000000-1.parquet", "2026-01-02T000000-1.parquet"
    folder = write(tmp_path / "f", [taken(2.1, "r", "e")], old)
    before = made(folder, feedback_kinds=("purchase",), keep_log=True)
    write(folder, [taken(8.1, "s", "e"), taken(8.2, "s", "h")], new)
    later = pl.DataFrame({"user": ["bob"], "item": ["a"], "time": [9 * DAY + NOON]})
    later.write_csv(tmp_path / "later.csv")
    options: dict[str, Any] = {
        "reader": "table", "columns": {"user": "user", "item": "item", "timestamp": "time"}, "feedback": folder
    }  # fmt: skip
    assert len(append(tmp_path / "later.csv", before, **options)) == len(before) + 1  # ann takes h; e and a they had
    (folder / old).unlink()
    with pytest.raises(PalateError, match="interactions that had joined from it would be lost"):
        append(tmp_path / "later.csv", before, **options)


def test_taken_items_join_the_log_once(tmp_path: Path) -> None:
    events = [
        taken(1.2, "r", "a"),  # in the log a fifth of a day before
        taken(2, "r", "e", "click"),
        taken(2.1, "r", "e"),  # the same, bought
        taken(2, "r", "f", "cart"),  # no such kind
        taken(2.4, "r", "new", user="dan"),
        taken(2.4, "unknown", "g", user=None),
    ]
    folder = write(tmp_path / "f", events)
    dataset = made(folder, feedback_kinds=("purchase", "click", "rent"))
    joined = dataset.manifest["feedback"]["joined"]
    assert joined == {
        "kinds": {"purchase": 3, "click": 1, "rent": 0},
        "taken": 4,
        "since": int(1.2 * DAY) + NOON,
        "in_the_log": 1,
        "again_within_a_day": 1,
        "joined": 2,
    }
    plain = made(folder)
    assert len(dataset) == len(plain) + 2
    assert [dataset.catalogue.ids[i] for i in dataset.history_of("ann")] == list("aebcd")
    assert [dataset.catalogue.ids[i] for i in dataset.history_of("dan")] == ["new"]
    assert dataset.user_ids[: plain.num_users].equals(plain.user_ids)
    twice = made(folder, feedback_kinds=("purchase",), duplicates="none")
    assert [twice.catalogue.ids[i] for i in twice.history_of("ann")] == list("aebcd")


def test_a_table_of_another_origin(tmp_path: Path) -> None:
    table = pl.DataFrame(
        {"uid": ["ann"] * 3, "sku": ["e", "b", "f"], "at": ["2021-01-04T11:00:00"] * 3, "clicked": [0, 1, 0]}
    )
    table.write_csv(tmp_path / "shown.csv")
    names = {"user": "uid", "item": "sku", "time": "at", "taken": "clicked"}
    dataset = made(tmp_path / "shown.csv", feedback_columns=names)
    assert rows(dataset) == [("ann", "e", False, 0, 0), ("ann", "b", True, 0, 0), ("ann", "f", False, 0, 0)]
    found = examine(dataset, look_at_pictures=False)["impressions-position"]
    assert found.level is Level.NOTE


def test_without_feedback_nothing_changes_and_with_it_all_is_hashed_and_kept(tmp_path: Path) -> None:
    dataset = made(write(tmp_path / "f", [*shown(0.9, "r1", "gha"), taken(1, "r1", "a")]))
    plain = replace(dataset, impressions=None)
    assert plain.fingerprint == made_plain().fingerprint != dataset.fingerprint
    dataset.save(tmp_path / "data")
    loaded = Dataset.load(tmp_path / "data")
    assert rows(loaded) == rows(dataset)
    assert loaded.fingerprint == dataset.fingerprint
    assert describe(tmp_path / "data")["impressions"] == {"shown": 3, "taken": 1, "requests": 1, "users": 1}
    plain.save(tmp_path / "data", replace=True)
    assert Dataset.load(tmp_path / "data").impressions is None
    dataset.save(tmp_path / "data", replace=True)
    (tmp_path / "data" / IMPRESSIONS).unlink()
    with pytest.raises(PalateError, match="is damaged"):
        Dataset.load(tmp_path / "data")


def made_plain() -> Dataset:
    frame = pl.DataFrame(LOG, schema=["user", "item", "day"], orient="row")
    return from_frames(frame.select("user", "item", time=pl.col("day") * DAY + NOON), timestamp="time")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (pl.lit("seen").alias("event"), r"row 1: 'seen' in the column 'event'"),
        (pl.lit(0).alias("position"), r"row 1: '0' in the column 'position'"),
        (pl.lit(None, pl.String).alias("item"), r"row 1: 'None' in the column 'item'"),
        (pl.lit(None, pl.Int64).alias("time"), r"row 1: 'None' in the column 'time'"),
        (pl.lit("x").alias("user"), "no user of the feedback is in the dataset: 'x' there, 'ann' in the log"),
    ],
)
def test_a_wrong_cell_is_named(change: pl.Expr, message: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "f", shown(1, "r", "eg"))
    file = next(folder.iterdir())
    pl.read_parquet(file).with_columns(change).write_parquet(file)
    with pytest.raises(PalateError, match=message):
        made(folder)


def test_options_that_cannot_be_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "f", [*shown(1, "r", "eg"), taken(1, "r", "e")])
    with pytest.raises(PalateError, match="click: nothing was taken in that way") as wrong:
        made(folder, feedback_kinds=("click",))
    assert "there are purchase" in wrong.value.remedy
    with pytest.raises(PalateError, match="given without --feedback"):
        from_frames(pl.DataFrame({"user": ["u"], "item": ["i"]}), feedback_kinds=("click",))
    with pytest.raises(PalateError, match="the log has no times"):
        from_frames(pl.DataFrame({"user": ["u"], "item": ["i"]}), feedback=folder)
    with pytest.raises(PalateError, match="does not exist"):
        made(tmp_path / "no")
    (tmp_path / "empty").mkdir()
    with pytest.raises(PalateError, match="is empty"):
        made(tmp_path / "empty")
    pl.DataFrame({"user": ["u"], "item": ["i"], "time": [1]}).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(PalateError, match="has no column 'event'"):
        made(tmp_path / "t.parquet")


def test_the_doctor_says_what_impressions_are_worth(tmp_path: Path) -> None:
    events = [*shown(0.9, "r1", "gha"), taken(1, "r1", "a"), taken(1, "r1", "e")]
    dataset = made(write(tmp_path / "f", events))
    report = examine(dataset, look_at_pictures=False)
    assert "1 of 2 users (50%) has impressions: 3 in 1 request, 33% of them taken." in report["impressions"].message
    assert report["impressions-unshown"].level is Level.WARNING
    assert dataset.impressions is not None
    late = replace(dataset, impressions=replace(dataset.impressions, times=dataset.impressions.times + 5 * DAY))
    assert examine(late, look_at_pictures=False)["impressions"].level is Level.ERROR
    all_taken = replace(dataset.impressions, taken=np.ones(3, bool))
    found = examine(replace(dataset, impressions=all_taken), look_at_pictures=False)["impressions-taken"]
    assert "nothing is a negative" in found.message


def test_the_command_reads_feedback(tmp_path: Path) -> None:
    folder = write(tmp_path / "f", [*shown(0.9, "r1", "gha"), taken(1, "r1", "a"), taken(2, "r1", "f", "click")])
    frame = pl.DataFrame(LOG, schema=["user", "item", "day"], orient="row")
    frame.select("user", "item", time=pl.col("day") * DAY + NOON).write_parquet(tmp_path / "log.parquet")
    app = typer.Typer()
    app.command()(prepare_command)
    words = [str(tmp_path / "log.parquet"), "--reader", "table", "--out", str(tmp_path / "out"), "--feedback"]
    result = CliRunner().invoke(app, [*words, str(folder), "--feedback-kinds", "purchase,click"])
    assert result.exit_code == 0, result.output
    text = " ".join(result.output.split())
    assert "Taken items (1 purchase, 1 click): 1 joined the interactions; 1 are in the log already" in text
    assert "Impressions: 3 in 1 request of 1 user, 1 of them taken; out of 3 in 1 file; left out: none." in text
