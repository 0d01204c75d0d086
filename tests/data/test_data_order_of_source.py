"""What puts interactions in order: a column of times that is found, pointed out, or missing from some of the files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from palate.data.dataset import Dataset
from palate.data.doctor import Level, examine
from palate.data.frames import from_frames
from palate.data.log import encode
from palate.data.prepare import prepare
from palate.data.readers.base import Source
from palate.data.readers.times import unused_times
from palate.errors import PalateError

Run = Callable[..., tuple[int, str, str]]
FIRST = 1_700_000_000


def written(path: Path, *columns: str, first: int = FIRST) -> Path:
    """Users u and v take a, b, c and d; any further column holds times that go back."""
    header = ",".join(("user", "item", *columns))
    rows = [
        f"{user},{item}" + f",{first + 100 - place}" * len(columns)
        for user in "uv"
        for place, item in enumerate("abcd")
    ]
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def order(dataset: Dataset) -> str:
    return "".join(dataset.catalogue.ids[item] for item in dataset.history_of("u"))


@pytest.mark.parametrize("name", ["timestamp", "Timestamp", "TIMESTAMP", "time", "Time"])
def test_a_column_of_times_is_found_in_any_case(tmp_path: Path, name: str) -> None:
    dataset = prepare(written(tmp_path / "log.csv", name), "table")
    assert order(dataset) == "dcba"
    assert dataset.manifest["order"] == {"by": "time"}


def test_two_spellings_of_one_name_are_pointed_out(tmp_path: Path) -> None:
    dataset = prepare(written(tmp_path / "log.csv", "TimeStamp", "TIMESTAMP"), "table")
    assert dataset.manifest["order"] == {"by": "file", "unused_times": ["TimeStamp", "TIMESTAMP"]}


@pytest.mark.parametrize("name", ["date", "Order_Date", "ts", "eventTime", "created_at", "unixReviewTime", "t_dat"])
@pytest.mark.parametrize("reader", ["table", "interactions"])
def test_a_column_that_looks_like_times_is_pointed_out(tmp_path: Path, palate: Run, name: str, reader: str) -> None:
    log = written(tmp_path / "interactions.csv", name)
    code, out, err = palate("prepare", log, "--reader", reader, "--out", tmp_path / "out")
    assert code == 0
    assert "order: as in the file; no times are used (--columns timestamp=NAME names them)" in out
    assert "Warning: No column of times was used" in err
    assert f"`--columns timestamp={name}`" in err
    assert order(Dataset.load(tmp_path / "out")) == "abcd"
    assert order(prepare(log, reader, columns={"timestamp": name})) == "dcba"


def test_recbole_points_a_column_of_times_out(tmp_path: Path) -> None:
    (tmp_path / "x.inter").write_text("user_id:token\titem_id:token\tclick_time:float\nu\ta\t3\nu\tb\t2\nu\tc\t1\n")
    assert prepare(tmp_path, "recbole").manifest["order"] == {"by": "file", "unused_times": ["click_time"]}


def test_prepare_says_by_what_it_ordered(tmp_path: Path, palate: Run) -> None:
    log = written(tmp_path / "log.csv", "timestamp")
    _, out, err = palate("prepare", log, "--reader", "table", "--out", tmp_path / "a", "--ties", "seed")
    assert "order: by time; at equal times drawn by the seed" in out
    assert "Warning" not in err
    (tmp_path / "user_sequence.txt").write_text("u a b c\nv a b c\n")
    _, out, err = palate("prepare", tmp_path, "--reader", "sequences", "--out", tmp_path / "b")
    assert "order: as in the file; no times are used\n" in out
    assert "times" not in err


def test_prepare_warns_of_times_that_cannot_be_true(tmp_path: Path, palate: Run) -> None:
    log = written(tmp_path / "log.csv", "timestamp", first=0)
    _, _, err = palate("prepare", log, "--reader", "table", "--out", tmp_path / "out")
    assert "Warning: 8 times (100%) lie before 1990" in err


def test_the_doctor_points_the_column_out(tmp_path: Path) -> None:
    dataset = prepare(written(tmp_path / "log.csv", "date"), "table")
    found = examine(dataset, look_at_pictures=False)["times"]
    assert (found.level, found.examples) == (Level.WARNING, ["date"])
    plain = prepare(written(tmp_path / "plain.csv"), "table")
    assert examine(plain, look_at_pictures=False)["times"].level is Level.NOTE


def test_frames_record_and_name_the_column_that_was_not_named(capsys: pytest.CaptureFixture[str]) -> None:
    frame = pl.DataFrame({"user": ["u"] * 3, "item": ["a", "b", "c"], "timestamp": [3, 2, 1]})
    assert from_frames(frame).manifest["order"] == {"by": "file", "unused_times": ["timestamp"]}
    assert "The column 'timestamp' may hold times and is not read: timestamp='timestamp'" in capsys.readouterr().err
    assert from_frames(frame, timestamp="").manifest["order"] == {"by": "file", "unused_times": []}
    assert from_frames(frame, timestamp="timestamp").manifest["order"]["by"] == "time"
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("schema", "found"),
    [
        ({"candidate": pl.String(), "price": pl.Float64(), "rating": pl.Int64(), "format": pl.String()}, []),
        ({"x": pl.Date(), "y": pl.Datetime("us"), "z": pl.Int64()}, ["x", "y"]),
        (
            {"Date": pl.String(), "purchaseDate": pl.String(), "DATETIME": pl.String()},
            ["Date", "purchaseDate", "DATETIME"],
        ),
    ],
)
def test_which_columns_look_like_times(schema: dict[str, Any], found: list[str]) -> None:
    assert unused_times({"user": pl.String(), **schema}, {"user": "user"}) == found
    assert unused_times(schema, {"timestamp": "t"}) == []


@pytest.mark.parametrize(("name", "ours"), [("timestamp", "timestamp"), ("Time", "timestamp"), ("rating", "weight")])
def test_files_of_which_only_some_have_times_or_ratings_are_refused(tmp_path: Path, name: str, ours: str) -> None:
    (tmp_path / "logs").mkdir()
    written(tmp_path / "logs" / "1.csv")
    written(tmp_path / "logs" / "2.csv", name)
    with pytest.raises(PalateError, match=rf"2\.csv has a column '{name}' for the {ours}, and 1\.csv has none"):
        prepare(tmp_path / "logs", "table")
    (tmp_path / "logs" / "1.csv").rename(tmp_path / "logs" / "3.csv")
    with pytest.raises(PalateError, match=rf"3\.csv has no column '{name}', unlike 2\.csv"):
        prepare(tmp_path / "logs", "table")


def test_files_with_numbers_and_with_dates_are_refused(tmp_path: Path) -> None:
    written(tmp_path / "1.csv", "time")
    (tmp_path / "2.csv").write_text("user,item,time\nu,x,2024-01-31\n")
    with pytest.raises(PalateError, match=r"2\.csv and 1\.csv: one has numbers as times and the other has dates"):
        prepare(tmp_path, "table")


@pytest.mark.parametrize("backwards", [False, True])
def test_a_reader_that_gives_times_for_some_interactions_is_refused(backwards: bool) -> None:
    timed = pl.DataFrame({"user": ["u"], "item": ["a"], "timestamp": [1]})
    frames = [timed, timed.drop("timestamp")]
    with pytest.raises(PalateError, match="only some of the interactions have times"):
        encode(Source(iter(frames[::-1] if backwards else frames), [Path("log.x")]))


def test_a_reader_whose_times_are_no_numbers_is_refused() -> None:
    frame = pl.DataFrame({"user": ["u"], "item": ["a"], "timestamp": ["2024-01-31"]})
    with pytest.raises(PalateError, match="the reader gives times as String"):
        encode(Source(iter([frame]), [Path("log.x")]))
