"""Times as files write them: their unit, their order by the full value, and what is refused."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from palate.data.dataset import Dataset
from palate.data.doctor import examine
from palate.data.frames import from_frames
from palate.data.log import encode
from palate.data.moments import calendar_format, judge, moments, unit_of
from palate.data.prepare import prepare
from palate.data.readers.base import Source
from palate.errors import PalateError

SECOND = 1_700_000_000
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
LATER = SECOND * 1000


def log(times: Any, items: str = "abc") -> pl.DataFrame:
    return pl.DataFrame({"user": ["u"] * len(items), "item": list(items), "when": times})


def written(folder: Path, times: list[Any], name: str = "log.csv", items: str = "abc") -> Path:
    lines = [f'u,{item},"{time}"\n' for item, time in zip(items, times, strict=True)]
    (folder / name).write_text("user,item,timestamp\n" + "".join(lines))
    return folder / name


def order(dataset: Dataset) -> str:
    return "".join(dataset.catalogue.ids[item] for item in dataset.history_of("u"))


def milliseconds(dataset: Dataset) -> list[int]:
    assert dataset.timestamps is not None
    return [int(time) for time in dataset.timestamps]


# Units


@pytest.mark.parametrize("first", PER_SECOND)
@pytest.mark.parametrize("second", PER_SECOND)
def test_each_file_has_its_own_unit(tmp_path: Path, first: str, second: str) -> None:
    written(tmp_path, [(SECOND + s) * PER_SECOND[first] for s in (50, 60, 70)], "1.csv")
    written(tmp_path, [(SECOND + s) * PER_SECOND[second] for s in (10, 55, 90)], "2.csv", "xyz")
    dataset = prepare(tmp_path, "table")
    assert order(dataset) == "xaybcz"
    assert milliseconds(dataset) == [LATER + 1000 * s for s in (10, 50, 55, 60, 70, 90)]
    unit = dataset.manifest["reader_report"]["time_unit"]
    assert unit == (first if first == second else {"1.csv": first, "2.csv": second})


def test_nanoseconds_beside_seconds_with_decimals_lose_no_digit(tmp_path: Path) -> None:
    times = [SECOND * 10**9 + n for n in (257, 256, 1)]
    log(times).rename({"when": "timestamp"}).write_parquet(tmp_path / "1.parquet")
    log([SECOND + 0.25] * 3, "xyz").rename({"when": "timestamp"}).write_parquet(tmp_path / "2.parquet")
    assert order(prepare(tmp_path, "table")) == "cbaxyz"


@pytest.mark.parametrize("other", [10**3, 10**6, 10**9])
def test_several_units_in_one_column_are_refused_with_both_rows(tmp_path: Path, other: int) -> None:
    path = written(tmp_path, [SECOND + 3, (SECOND + 1) * other, SECOND + 2])
    words = rf"{SECOND + 3} \(.*log\.csv, row 2\) looks like seconds and {(SECOND + 1) * other} \(.*log\.csv, row 3\)"
    with pytest.raises(PalateError, match=words) as refused:
        prepare(path, "table")
    assert "--time-unit" in str(refused.value)


def test_the_row_of_a_mixed_unit_is_that_of_its_own_file(tmp_path: Path) -> None:
    written(tmp_path, [SECOND, SECOND + 1, SECOND + 2], "1.csv")
    written(tmp_path, [LATER, LATER + 1, 5], "2.csv", "xyz")
    with pytest.raises(PalateError, match=r"5 \(.*2\.csv, row 4\) looks like seconds and .*2\.csv, row 3\)"):
        prepare(tmp_path, "table")
    assert milliseconds(prepare(tmp_path / "2.csv", "table", time_unit="ms")) == [5, LATER, LATER + 1]


def test_several_units_of_any_reader_are_refused(tmp_path: Path) -> None:
    times = [SECOND, LATER]
    frame = pl.DataFrame({"user": ["u", "u"], "item": ["a", "b"], "timestamp": times})
    with pytest.raises(PalateError, match=r"interaction 1\) looks like seconds .*interaction 2\) looks like millisec"):
        encode(Source(iter([frame]), [Path("log.x")]))
    with pytest.raises(PalateError, match=r"interactions, row 1\) looks like seconds"):
        from_frames(frame, timestamp="timestamp")


def test_zero_fits_every_unit() -> None:
    assert milliseconds(from_frames(log([0, LATER, LATER + 1]), timestamp="when")) == [0, LATER, LATER + 1]


@pytest.mark.parametrize(
    ("times", "unit", "rows"),
    [
        ([0, 0], "s", []),
        ([-SECOND, SECOND], "s", []),
        ([-LATER, LATER], "ms", []),
        ([-LATER, 7, 0, LATER], "ms", [1]),
        ([LATER, -(2**63)], "ns", [0]),
        (np.array([5, 2**64 - 1], np.uint64), "ns", [0]),
        (np.array([5, 7], np.uint8), "s", []),
        (np.array([0.5, 1e12]), "ms", [0]),
    ],
)
def test_units_are_judged_by_size(times: Any, unit: str, rows: list[int]) -> None:
    found, smaller = judge(np.asarray(times))
    assert (found, smaller.tolist()) == (unit, rows)


@pytest.mark.parametrize(("value", "unit"), [(99_999_999_999, "s"), (10**11, "ms"), (10**14, "us"), (10**17, "ns")])
def test_edges_of_the_units(value: int, unit: str) -> None:
    assert unit_of(value) == unit_of(-value) == unit


# Exactness


@pytest.mark.parametrize("kind", [pl.Float32, pl.Float64, pl.Int64, pl.UInt64, pl.Int128, pl.Decimal(20, 3)])
def test_the_number_that_a_column_holds_is_what_counts(kind: Any) -> None:
    times = [1_700_000_256, 1_700_000_128, 1_700_000_000]  # whole in float32, too
    dataset = from_frames(log(pl.Series(times).cast(kind)), timestamp="when")
    assert milliseconds(dataset) == [1_700_000_000_000, 1_700_000_128_000, 1_700_000_256_000]
    assert order(dataset) == "cba"


@pytest.mark.parametrize("unit", ["us", "ns"])
@pytest.mark.parametrize("kind", ["number", "text", "datetime"])
def test_order_is_that_of_the_full_value(unit: Any, kind: str) -> None:
    values = [SECOND * PER_SECOND[unit] + fine for fine in (3, 1, 2)]
    series = pl.Series(values)
    if kind == "datetime":
        series = series.cast(pl.Datetime(unit))
    elif kind == "text":
        series = series.cast(pl.String)
    dataset = from_frames(log(series), timestamp="when")
    assert order(dataset) == "bca"
    assert milliseconds(dataset) == [LATER] * 3
    assert order(from_frames(log(series), timestamp="when", ties="seed", seed=5)) == "bca"


@pytest.mark.parametrize(
    "times",
    [
        ["2024-01-05T10:00:00.000003Z", "2024-01-05T10:00:00.000001Z", "2024-01-05T10:00:00.000002Z"],
        ["2024-01-05 10:00:00.000000003", "2024-01-05 10:00:00.000000001", "2024-01-05 10:00:00.000000002"],
    ],
)
def test_order_is_that_of_all_digits_of_iso_text(times: list[str]) -> None:
    assert order(from_frames(log(times), timestamp="when")) == "bca"


def test_files_with_and_without_fine_times_are_in_one_order(tmp_path: Path) -> None:
    written(tmp_path, [LATER, LATER + 1, LATER + 2], "1.csv")
    written(tmp_path, [LATER * 1000 + fine for fine in (1500, 500, 700)], "2.csv", "xyz")
    assert order(prepare(tmp_path, "table")) == "ayzbxc"


def test_duplicates_and_dislikes_go_by_the_full_value() -> None:
    micros = SECOND * 10**6
    rows = [("y", 1, 4), ("e", 5, 6), ("d", 5, 5), ("c", 5, 3), ("b", 5, 2), ("a", 5, 1), ("x", 1, 0)]
    frame = pl.DataFrame(
        {
            "user": ["u"] * 7,
            "item": [row[0] for row in rows],
            "stars": [row[1] for row in rows],
            "when": [micros + row[2] for row in rows],
        }
    )
    other = frame.with_columns(user=pl.lit("v"), when=micros, stars=pl.lit(5, pl.Int64))
    data = from_frames(pl.concat([frame, other]), timestamp="when", weight="stars", min_rating=4, disliked_at_most=2)
    assert data.dislikes is not None
    assert data.manifest["dislikes"]["left_out"]["too_late"] == 1  # y, a microsecond after c
    assert [data.catalogue.ids[item] for item in data.dislikes[0]] == ["x"]


@pytest.mark.parametrize(("unit", "per"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_moments_keep_the_order_of_random_times(unit: Any, per: int) -> None:
    rng = np.random.default_rng(0)
    whole = SECOND * per + rng.integers(0, 10_000, 500)
    for times in (whole, whole.astype(np.uint64), whole + rng.random(500)):
        ms, beyond = moments(times, unit)
        keys = [np.zeros(500), ms] if beyond is None else [beyond, ms]
        by_moment = np.lexsort(keys)
        assert (np.diff(times[by_moment].astype(np.float64)) >= 0).all()
        assert (np.abs(ms - times.astype(np.float64) * (1000 / per)) <= 1).all()


def test_unsigned_times_do_not_wrap() -> None:
    times = pl.Series([2**64 - 1, 2**64 - 2, 2**64 - 3], dtype=pl.UInt64)
    dataset = from_frames(log(times), timestamp="when")
    assert order(dataset) == "cba"
    assert milliseconds(dataset) == [(2**64 - 1) // 10**6] * 3
    with pytest.raises(PalateError, match=r"row 3: the time 18446744073709551613, in seconds, is outside of the years"):
        from_frames(log(times), timestamp="when", time_unit="s")


# How times are written


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ("2024-01-05", datetime(2024, 1, 5, tzinfo=UTC)),
        ("2024-01-05T10:30", datetime(2024, 1, 5, 10, 30, tzinfo=UTC)),
        ("2024-01-05 10:30:15", datetime(2024, 1, 5, 10, 30, 15, tzinfo=UTC)),
        ("2024-01-05 10:30:15,250", datetime(2024, 1, 5, 10, 30, 15, 250_000, tzinfo=UTC)),
        ("2024-01-05T10:30:15.25Z", datetime(2024, 1, 5, 10, 30, 15, 250_000, tzinfo=UTC)),
        ("2024-01-05 10:30:15 UTC", datetime(2024, 1, 5, 10, 30, 15, tzinfo=UTC)),
        ("2024-01-05 10:30:15+00", datetime(2024, 1, 5, 10, 30, 15, tzinfo=UTC)),
        ("2024-01-05 10:30:15 +0200", datetime(2024, 1, 5, 8, 30, 15, tzinfo=UTC)),
        ("2024-01-05T10:30:15-03:30", datetime(2024, 1, 5, 14, 0, 15, tzinfo=UTC)),
        ("9999-12-31 00:00:00", datetime(9999, 12, 31, tzinfo=UTC)),
        (" 1704450615 ", datetime(2024, 1, 5, 10, 30, 15, tzinfo=UTC)),
        ("1.704450615e9", datetime(2024, 1, 5, 10, 30, 15, tzinfo=UTC)),
    ],
)
def test_iso_dates_and_numbers_as_text(first: str, expected: datetime) -> None:
    dataset = from_frames(log([first] * 3), timestamp="when")
    assert milliseconds(dataset) == [round(expected.timestamp() * 1000)] * 3


@pytest.mark.parametrize("first", ["1704450615", "1704450615.0"])
def test_numbers_with_and_without_a_point_may_follow_each_other(tmp_path: Path, first: str) -> None:
    path = written(tmp_path, [first, "1704450614", "1704450613.5"])
    assert milliseconds(prepare(path, "table")) == [1704450613500, 1704450614000, 1704450615000]


@pytest.mark.parametrize(
    ("first", "words"),
    [
        ("01/02/2024", r"'01/02/2024', is neither .* several ways.*--time-format '%d/%m/%Y' or '%m/%d/%Y'"),
        ("02/25/2024 18:30", r"--time-format '%m/%d/%Y %H:%M'\."),
        ("2024/01/31", r"--time-format '%Y/%m/%d'\."),
        ("31.01.2024", r"--time-format '%d\.%m\.%Y'\."),
        ("yesterday", r"'yesterday', is neither a number nor an ISO date"),
    ],
)
def test_other_dates_are_refused_and_the_format_that_fits_is_named(tmp_path: Path, first: str, words: str) -> None:
    with pytest.raises(PalateError, match=rf"log\.csv: the first time in column 'timestamp', .*{words}"):
        prepare(written(tmp_path, [first] * 3), "table")


@pytest.mark.parametrize("reader", ["table", "interactions"])
def test_a_time_format_is_followed(tmp_path: Path, reader: str) -> None:
    path = written(tmp_path, ["01/02/2024", "03/01/2024", "02/01/2024"], "interactions.csv")
    day = datetime(2024, 1, 2, tzinfo=UTC).timestamp() * 1000
    dataset = prepare(path, reader, time_format="%d/%m/%Y")
    assert order(dataset) == "cba"
    assert milliseconds(dataset)[0] == day
    assert order(prepare(path, reader, time_format="%m/%d/%Y")) == "acb"


def test_a_time_format_of_dates_that_are_numbers() -> None:
    whole = [20240202, 20240201, 20240131]
    for times in (whole, [float(time) for time in whole]):
        dataset = from_frames(log(times), timestamp="when", time_format="%Y%m%d")
        assert order(dataset) == "cba"
        assert milliseconds(dataset)[0] == datetime(2024, 1, 31, tzinfo=UTC).timestamp() * 1000


@pytest.mark.parametrize(
    ("times", "written_as"),
    [([20240202, 20240201, 20240131], "%Y%m%d"), ([20240202103000, 20240201000000, 20240131235959], "%Y%m%d%H%M%S")],
)
def test_numbers_that_may_be_dates_are_refused_until_it_is_said(times: list[int], written_as: str) -> None:
    assert calendar_format(np.array(times)) == written_as
    assert calendar_format(np.array([*times, times[0] + 70])) is None
    with pytest.raises(
        PalateError, match=rf"row 1: the time {times[0]} may be a date .*--time-format {written_as}, or"
    ):
        from_frames(log(times), timestamp="when")
    assert order(from_frames(log(times), timestamp="when", time_format=written_as)) == "cba"
    assert order(from_frames(log(times), timestamp="when", time_unit="ms")) == "cba"


@pytest.mark.parametrize(
    ("times", "options", "words"),
    [
        (["31/01/2024", "x", "y"], {"time_format": "%d/%m/%Y"}, "row 2: 'x' in column 'when' is not a time of the for"),
        (
            ["31/01/2024"] * 3,
            {"time_format": "%m/%d/%Y"},
            r"'31/01/2024', does not fit --time-format %m/%d/%Y\. Perhaps",
        ),
        (["31/01/2024"] * 3, {"time_format": "dd/mm/yyyy"}, "no year is in it"),
        (["31/01"] * 3, {"time_format": "%d/%m"}, "no year is in it"),
        (["31/01/2024"] * 3, {"time_format": "%d/%m/%Y", "time_unit": "s"}, "Give one of them"),
        ([date(2024, 1, 31)] * 3, {"time_format": "%d/%m/%Y"}, "holds Date. Leave --time-format out"),
        (["2024-01-31", "31/01/2024", "1"], {}, "row 2: '31/01/2024' in column 'when' is not a time like the first"),
        (["2024-01-31", "5", "1"], {}, "row 2: the time '5' is not written like the first one"),
        (["5", "2024-01-31", "1"], {}, "row 2: the time '2024-01-31' is not written like the first one"),
        ([1.5, float("inf"), 1.0], {}, "row 2: 'inf' in column 'when' is not a finite number"),
        ([True, False, True], {}, "holds Boolean. Times must be numbers or dates"),
        (pl.Series([1, 2, 3]).cast(pl.Duration("ms")), {}, r"holds Duration.* Times must be numbers or dates"),
    ],
)
def test_times_that_cannot_be_read_are_named(times: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(PalateError, match=words):
        from_frames(log(times), timestamp="when", **options)


def test_a_time_format_needs_a_column_of_times() -> None:
    with pytest.raises(PalateError, match="has no column of times"):
        from_frames(log([1, 2, 3]), time_format="%Y")


@pytest.mark.parametrize("value", [float("inf"), "inf", "1e99"])
def test_a_rating_that_is_not_finite_is_named_as_the_rating(value: object) -> None:
    frame = log([3, 2, 1]).with_columns(stars=pl.Series([value] * 3))
    with pytest.raises(PalateError, match=r"row 1: '.*' in column 'stars' is not a finite number"):
        from_frames(frame, timestamp="when", weight="stars")


# What the doctor says


def test_the_doctor_counts_no_ties_that_finer_times_settle() -> None:
    micros = [SECOND * 10**6 + fine for fine in range(8)]
    data = from_frames(log(micros, "abcdefgh"), timestamp="when")
    assert data.manifest["order"] == {"by": "time", "steps_within_a_millisecond": 7}
    report = examine(data, look_at_pictures=False)
    assert report["time-ties"].share == 0
    assert "7 steps within the same millisecond" in report["time-ties"].message
    assert "--ties seed" not in report["id-order"].message
    whole = from_frames(log([LATER] * 8, "abcdefgh"), timestamp="when")
    assert whole.manifest["order"] == {"by": "time"}
    assert examine(whole, look_at_pictures=False)["time-ties"].share == 1
