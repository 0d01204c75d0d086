"""The ``table`` reader and frames: any columns, any types, and what they refuse."""

from __future__ import annotations

import gzip
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from palate.data.frames import from_frames
from palate.data.prepare import prepare
from palate.errors import PalateError

FRAME = pl.DataFrame({"uid": ["a"] * 4 + ["b"] * 4, "sku": [1, 2, 3, 4, 4, 3, 2, 1], "ts": [4, 3, 2, 1, 1, 2, 3, 4]})
COLUMNS = {"user": "uid", "item": "sku", "timestamp": "ts"}


def text_log(path: Path, header: str = "user,item,timestamp", rows: tuple[str, ...] = ()) -> Path:
    lines = [header, *(f"{u},{i},{t}" for u, i, t in FRAME.rows()), *rows]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(
    ("times", "first"),
    [
        ([10, 11, 12], 10_000),
        ([1_500_000_000, 1_500_000_001, 1_500_000_002], 1_500_000_000_000),
        ([1_500_000_000.25, 1_500_000_001.0, 1_500_000_002.0], 1_500_000_000_250),
        ([1_500_000_000_123, 1_500_000_000_124, 1_500_000_000_125], 1_500_000_000_123),
        ([1_500_000_000_123_456, 1_500_000_000_124_000, 1_500_000_000_125_000], 1_500_000_000_123),
        ([1_500_000_000_123_456_789, 1_500_000_000_124_000_000, 1_500_000_000_125_000_000], 1_500_000_000_123),
        ([date(2017, 7, 14), date(2017, 7, 15), date(2017, 7, 16)], 1_499_990_400_000),
        ([datetime(2017, 7, 14, 2, 40, s) for s in range(3)], 1_500_000_000_000),
        (["2017-07-14T02:40:00Z", "2017-07-14T02:40:01Z", "2017-07-14T02:40:02Z"], 1_500_000_000_000),
        (["2017-07-14 02:40:00", "2017-07-14 02:40:01", "2017-07-14 02:40:02"], 1_500_000_000_000),
        (["2017-07-14T04:40:00+02:00", "2017-07-14T04:40:01+02:00", "2017-07-14T04:40:02+02:00"], 1_500_000_000_000),
        (["2017-07-14", "2017-07-15", "2017-07-16"], 1_499_990_400_000),
        (["1500000000", "1500000001", "1500000002"], 1_500_000_000_000),
    ],
)
def test_times_of_every_kind_become_unix_milliseconds(times: list[Any], first: int) -> None:
    frame = pl.DataFrame({"user": ["u"] * 3, "item": ["a", "b", "c"], "when": times})
    dataset = from_frames(frame, timestamp="when")
    assert dataset.timestamps is not None
    assert dataset.timestamps[0] == first
    assert (np.diff(dataset.timestamps) > 0).all()


def test_times_with_a_zone_are_moved_to_utc() -> None:
    times = pl.Series([datetime(2017, 7, 14, 4, 40, s) for s in range(3)]).dt.replace_time_zone("Europe/Berlin")
    dataset = from_frames(pl.DataFrame({"user": [1] * 3, "item": [1, 2, 3], "when": times}), timestamp="when")
    assert dataset.timestamps is not None
    assert dataset.timestamps[0] == 1_500_000_000_000


def test_the_unit_of_times_can_be_told() -> None:
    frame = pl.DataFrame({"user": [1] * 3, "item": [1, 2, 3], "when": [1, 2, 3]})
    dataset = from_frames(frame, timestamp="when", time_unit="ms")
    assert dataset.timestamps is not None
    assert dataset.timestamps.tolist() == [1, 2, 3]


@pytest.mark.parametrize("ending", ["csv", "tsv", "csv.gz", "parquet"])
def test_every_file_kind_gives_the_same_dataset(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"log.{ending}"
    if ending == "parquet":
        FRAME.write_parquet(path)
    else:
        text = FRAME.write_csv(separator="\t" if ending == "tsv" else ",")
        path.write_bytes(gzip.compress(text.encode()) if ending.endswith("gz") else text.encode())
    dataset = prepare(path, "table", columns=COLUMNS)
    expected = from_frames(FRAME, user="uid", item="sku", timestamp="ts")
    assert dataset.fingerprint == expected.fingerprint
    assert [dataset.catalogue.ids[i] for i in dataset.history_of("a")] == ["4", "3", "2", "1"]


def test_ids_keep_zeros_spaces_and_signs(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text('user,item\n007,+1\n007,01\n007,"a, b"\n7, x\n7,01\n7,é\n')
    dataset = prepare(tmp_path / "log.csv", "table")
    assert dataset.user_ids.to_list() == ["007", "7"]
    assert dataset.catalogue.ids[1:] == ["+1", "01", "a, b", " x", "é"]


def test_catalogue_with_mapped_columns_numbers_and_pictures(tmp_path: Path) -> None:
    (tmp_path / "mugs.csv").write_text(
        "sku,name,picture,price,colour\n1,Mug,red/1.png,9.5,red\n2,,https://shop.example/2.png,3,\n3,Pot,,,blue\n9,New,,1,x\n"
    )
    (tmp_path / "shots" / "red").mkdir(parents=True)
    (tmp_path / "shots" / "red" / "1.png").write_bytes(b"png")
    options: dict[str, Any] = {
        "catalogue": tmp_path / "mugs.csv",
        "item_columns": {"item_id": "sku", "title": "name", "image": "picture"},
        "images": tmp_path / "shots",
    }
    log = text_log(tmp_path / "log.csv")
    dataset = prepare(log, "table", **options)
    frame = dataset.catalogue.frame
    assert frame.columns == ["item_id", "title", "image", "price", "colour"]
    assert frame.schema["price"] == pl.Float64
    assert frame["title"].to_list() == ["Mug", None, "Pot", None]
    assert frame["image"].to_list() == ["red/1.png", None, None, None]
    path = dataset.catalogue.image_path(1)
    assert path is not None
    assert path.read_bytes() == b"png"
    assert dataset.manifest["reader_report"]["image_urls_not_fetched"] == 1
    kept = prepare(log, "table", **options, keep_unseen=True)
    assert kept.catalogue.ids == ["", "1", "2", "3", "4", "9"]
    assert kept.train_counts[5] == 0
    (tmp_path / "shots" / "2.png").write_bytes(b"fetched")  # named by its id: the cell holds an address of the web
    fetched = prepare(log, "table", **options).catalogue.frame["image"].to_list()
    assert fetched == ["red/1.png", "2.png", None, None]
    dropped = prepare(log, "table", **options, missing_items="drop")
    assert dropped.catalogue.ids == ["", "1", "2", "3"]
    assert dropped.manifest["filters"][0]["step"] == "missing-items"


@pytest.mark.parametrize("name", ["../1.png", "/etc/passwd", "a/../../1.png", "C:\\\\1.png", "..\\\\1.png"])
def test_a_picture_outside_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "mugs.csv").write_text(f"item_id,title,image\n1,Mug,{name}\n")
    with pytest.raises(PalateError, match=r"mugs\.csv, item '1': the picture .* lies outside"):
        prepare(text_log(tmp_path / "log.csv"), "table", catalogue=tmp_path / "mugs.csv")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (("c,1,x",), r"log\.csv, row 10: 'x' in column 'timestamp' is not a time"),
        (("c,,5",), r"log\.csv, row 10: no value in column 'item'"),
        ((",1,5",), r"log\.csv, row 10: no value in column 'user'"),
        (("c,1",), r"log\.csv, row 10: no value in column 'timestamp'"),
        (("c,1,2,3",), r"log\.csv, row 10: 4 cells, not 3"),
        (('c,"1\n2",3', "c,1,2,3"), r"log\.csv, row 12: 4 cells"),
    ],
)
def test_a_broken_row_is_named(tmp_path: Path, rows: tuple[str, ...], words: str) -> None:
    with pytest.raises(PalateError, match=words):
        prepare(text_log(tmp_path / "log.csv", rows=rows), "table")


def test_a_broken_row_of_a_later_file_is_named_there(tmp_path: Path) -> None:
    text_log(tmp_path / "1.csv")
    text_log(tmp_path / "2.csv", rows=("c,,5",))
    with pytest.raises(PalateError, match=r"2\.csv, row 10: no value in column 'item'"):
        prepare(tmp_path, "table")
    text_log(tmp_path / "2.csv", rows=("c,1,5,6",))
    with pytest.raises(PalateError, match=r"2\.csv, row 10: 4 cells"):
        prepare(tmp_path, "table")


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("a,b\n1,2\n", {}, "no column 'user'.*--columns user=NAME, of a, b"),
        ("user,b\n1,2\n", {"columns": {"item": "c"}}, "no column 'c'"),
        ("user,item\n1,2\n", {"columns": {"usr": "user"}}, "Did you mean 'user'"),
        ("user,item\n", {}, "no interaction"),
        ("user,item\n1,é\n".encode("latin-1"), {}, "UTF-8"),
        ("user,item\n1,2\n", {"catalogue": Path("none.csv")}, "is not a file"),
        ("user,item\n1,2\n", {"item_columns": {"item_id": "x"}}, "without --catalogue"),
        ("user,item\n1,2\n", {"k_cor": 5}, "Did you mean 'k_core'"),
        ("user,item\n1,2\n", {"k_core": -1}, "k_core"),
    ],
)
def test_logs_that_cannot_be_read(tmp_path: Path, text: str | bytes, options: dict[str, Any], words: str) -> None:
    (tmp_path / "log.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(PalateError, match=words):
        prepare(tmp_path / "log.csv", "table", **options)


def test_a_catalogue_beside_the_log_must_be_told_apart(tmp_path: Path) -> None:
    text_log(tmp_path / "log.csv")
    (tmp_path / "mugs.csv").write_text("item_id,title\n1,Mug\n")
    with pytest.raises(PalateError, match="Say --catalogue"):
        prepare(tmp_path, "table")
    assert prepare(tmp_path, "table", catalogue=tmp_path / "mugs.csv").catalogue.titles[1] == "Mug"


def test_broken_and_foreign_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "log.parquet").write_bytes(b"no parquet at all")
    with pytest.raises(PalateError, match=r"log\.parquet cannot be read"):
        prepare(tmp_path / "log.parquet", "table")
    (tmp_path / "log.xlsx").write_bytes(b"PK")
    with pytest.raises(PalateError, match=r"log\.xlsx is neither"):
        prepare(tmp_path / "log.xlsx", "table")
    (tmp_path / "log.csv.gz").write_bytes(b"no gzip")
    with pytest.raises(PalateError, match=r"log\.csv\.gz"):
        prepare(tmp_path / "log.csv.gz", "table")


@pytest.mark.parametrize("kind", ["polars", "lazy", "pandas"])
def test_frames_of_every_kind_give_the_same_dataset(kind: str) -> None:
    items = pl.DataFrame(
        {"sku": [1, 2, 3, 4], "name": ["one", None, "three", "four"], "tags": [["a"], [], None, ["b"]]}
    )
    convert: dict[str, Any] = {"polars": lambda f: f, "lazy": pl.DataFrame.lazy, "pandas": pl.DataFrame.to_pandas}
    dataset = from_frames(
        convert[kind](FRAME),
        convert[kind](items),
        user="uid",
        item="sku",
        timestamp="ts",
        item_columns={"item_id": "sku", "title": "name"},
    )
    assert dataset.catalogue.titles == ["", "one", "2", "three", "four"]
    assert dataset.catalogue.frame.schema["tags"] == pl.List(pl.String)
    assert dataset.cases("test").targets.to_lists() == [[1], [1]]
    assert dataset.manifest["name"] == "frames"


def test_frames_take_filters_splits_weights_and_pictures(tmp_path: Path) -> None:
    (tmp_path / "3.png").write_bytes(b"png")
    frame = FRAME.with_columns(stars=pl.col("ts").cast(pl.Float64))
    dataset = from_frames(frame, user="uid", item="sku", weight="stars", min_rating=2, images=tmp_path, name="shop")
    assert dataset.weights is not None
    assert dataset.weights.tolist() == [4, 3, 2, 2, 3, 4]
    assert dataset.timestamps is None
    assert dataset.catalogue.frame.filter(pl.col("item_id") == "3")["image"].to_list() == ["3.png"]
    assert dataset.name == "shop"
    items = pl.DataFrame({"item_id": ["2", "3"], "image": ["a/2.png", "https://shop.example/3.png"]})
    pictured = from_frames(frame, items, user="uid", item="sku", images=tmp_path).catalogue.frame
    assert dict(pictured.select("item_id", "image").iter_rows()) == {"1": None, "2": "a/2.png", "3": "3.png", "4": None}


def test_frames_that_cannot_be_read() -> None:
    with pytest.raises(PalateError, match="row 2: no value in column 'item'"):
        from_frames(pl.DataFrame({"user": [1, 2], "item": ["a", None]}))
    with pytest.raises(PalateError, match="row 1: 'x' in column 'stars' is not a number"):
        from_frames(pl.DataFrame({"user": [1, 2], "item": [1, 2], "stars": ["x", "2"]}), weight="stars")
    with pytest.raises(PalateError, match=r"holds Float64\. Ids must be"):
        from_frames(pl.DataFrame({"user": [1.0, 2.0], "item": [1, 2]}))
    with pytest.raises(PalateError, match="Give a frame of polars or pandas"):
        from_frames({"user": [1]})
    with pytest.raises(PalateError, match="no column 'uid'"):
        from_frames(FRAME.drop("uid"), user="uid", item="sku")
    with pytest.raises(PalateError, match="Did you mean 'k_core'"):
        from_frames(FRAME, user="uid", item="sku", kcore=3)
    with pytest.raises(PalateError, match="takes no 'columns'"):
        from_frames(FRAME, columns={"user": "uid"})
    with pytest.raises(PalateError, match="no column 'item_id'"):
        from_frames(FRAME, pl.DataFrame({"x": [1]}), user="uid", item="sku")
    with pytest.raises(PalateError, match="frame of interactions"):
        from_frames(pd.DataFrame({"user": [1, "a"], "item": [1, 2]}))


def test_a_title_or_picture_that_is_no_text_is_refused() -> None:
    for name in ("title", "image"):
        items = pl.DataFrame({"item_id": [1], name: [["a", "b"]]})
        with pytest.raises(PalateError, match=f"column '{name}' holds List"):
            from_frames(FRAME, items, user="uid", item="sku")


def test_a_column_is_not_taken_as_time_or_rating_unless_it_is_named() -> None:
    dataset = from_frames(FRAME.rename({"ts": "timestamp"}), user="uid", item="sku")
    assert dataset.timestamps is None


def test_a_table_named_tsv_is_split_by_tabs_whatever_its_names_have(tmp_path: Path) -> None:
    header = "user\titem\ttimestamp\tnote (one, two, three; four)"
    log = text_log(tmp_path / "log.tsv", header)
    log.write_text(log.read_text().replace(",", "\t").replace("note (one\t two\t three", "note (one, two, three"))
    assert prepare(log, "table").num_items == 4
    # Without tabs it is what its first line says, whatever its name says.
    assert prepare(text_log(tmp_path / "commas.tsv"), "table").num_items == 4
