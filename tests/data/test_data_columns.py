"""Which columns, header lines and files make a log: named, left out, read, or refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from palate.data.frames import from_frames
from palate.data.prepare import prepare
from palate.errors import PalateError
from palate.names import field_names, quoted_name, split_names, unquoted_name
from palate.storage.toml import read_toml

LOG = pl.DataFrame({"user": ["a"] * 3 + ["b"] * 3, "item": list("xyz" * 2), "timestamp": [1, 2, 3, 1, 2, 3]})


def csv(path: Path, frame: pl.DataFrame, **options: Any) -> Path:
    frame.write_csv(path, **options)
    return path


@pytest.mark.parametrize("name", ["weight", "rating", "timestamp"])
def test_a_column_that_blocks_the_run_can_be_left_out(tmp_path: Path, name: str) -> None:
    path = csv(tmp_path / "log.csv", LOG.with_columns(pl.lit("1.2kg").alias(name)))
    ours = "timestamp" if name == "timestamp" else "weight"
    if ours == "weight":
        with pytest.raises(PalateError, match=f"row 2: '1.2kg' in column '{name}'.*leave the column out: .*weight=."):
            prepare(path, "table")
    dataset = prepare(path, "table", columns={ours: ""})
    assert (dataset.weights is None, dataset.timestamps is None) == (True, ours == "timestamp")
    assert "unused_times" not in dataset.manifest["reader_report"]
    with pytest.raises(PalateError, match="--columns item= names no column"):
        prepare(path, "table", columns={"item": ""})


def test_columns_of_frames_are_named_as_python_names_them() -> None:
    log, catalogue = LOG.rename({"user": "customer", "item": "sku"}), pl.DataFrame({"sku": ["x"]})
    with pytest.raises(PalateError, match=r"'user' and no column 'item'.* user=NAME, item=NAME, of customer, sku"):
        from_frames(log)
    with pytest.raises(PalateError, match=r"no column 'item'. Name the column: item=NAME, of customer"):
        from_frames(log, user="customer")
    with pytest.raises(PalateError, match=r'item_columns=\{"item_id": "NAME"\}, of sku'):
        from_frames(log, catalogue, user="customer", item="sku")


def test_other_readers_leave_columns_out_too(tmp_path: Path) -> None:
    csv(tmp_path / "interactions.csv", LOG.with_columns(rating=pl.lit("?"), ge3=pl.lit("?")))
    assert prepare(tmp_path, "interactions", columns={"weight": ""}).weights is None
    header = {"user": "user_id:token", "item": "item_id:token", "timestamp": "timestamp:float"}
    atomic = LOG.rename(header).with_columns(pl.lit("?").alias("rating:float"))
    csv(tmp_path / "a.inter", atomic, separator="\t")
    assert prepare(tmp_path, "recbole", columns={"weight": ""}).weights is None


def test_a_column_of_the_catalogue_can_be_left_out(tmp_path: Path) -> None:
    path = csv(tmp_path / "log.csv", LOG)
    items = csv(
        tmp_path / "items.csv", pl.DataFrame({"item_id": list("xyz"), "title": "t", "image": "../x", "price": 1})
    )
    with pytest.raises(PalateError, match="lies outside"):
        prepare(path, "table", catalogue=items)
    dataset = prepare(path, "table", catalogue=items, item_columns={"image": "", "price": ""})
    assert dataset.catalogue.frame.columns == ["item_id", "title", "image"]
    assert dataset.catalogue.frame["image"].null_count() == 3
    with pytest.raises(PalateError, match="item_id= names no column"):
        prepare(path, "table", catalogue=items, item_columns={"item_id": ""})


NAMES = ["sku", " sku", "Customer, ID", 'a "b" c', '24" x', "a=b", ""]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_can_be_written_in_a_list(name: str) -> None:
    text = f"first, {quoted_name(name)} ,last"
    assert [unquoted_name(part) for part in split_names(text, "--fields")] == ["first", name, "last"]


def test_lists_of_names() -> None:
    assert field_names('genres, "Customer, ID",, " x"', "--fields") == ["genres", "Customer, ID", " x"]
    with pytest.raises(PalateError, match='--fields a,"b: a double quote is not closed'):
        field_names('a,"b', "--fields")


def test_advice_on_names_can_be_followed(tmp_path: Path) -> None:
    path = csv(tmp_path / "log.csv", LOG.rename({"user": "Customer, ID", "item": " sku"}))
    with pytest.raises(PalateError, match="""of "Customer, ID", " sku", timestamp"""):
        prepare(path, "table")
    with pytest.raises(PalateError, match="""Did you mean '" sku"'"""):
        prepare(path, "table", columns={"user": "Customer, ID", "item": "sku"})
    columns = {"user": "Customer, ID", "item": " sku"}
    assert prepare(path, "table", columns=columns).user_ids.to_list() == ["a", "b"]


@pytest.mark.parametrize("name", ["__row", "row", "line", "_row"])
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_no_name_is_reserved(tmp_path: Path, name: str, ending: str) -> None:
    frame = LOG.rename({"item": name}).with_columns(row_nr=1)
    path = tmp_path / f"log.{ending}"
    (frame.write_parquet if ending == "parquet" else frame.write_csv)(path)
    dataset = prepare(path, "table", columns={"item": name})
    assert dataset.catalogue.ids[1:] == ["x", "y", "z"]
    broken = pl.concat([frame, frame.head(1).with_columns(pl.lit(None).alias("user"))], how="vertical_relaxed")
    (broken.write_parquet if ending == "parquet" else broken.write_csv)(path)
    row = 7 if ending == "parquet" else 8
    with pytest.raises(PalateError, match=rf"log\.{ending}, row {row}: no value in column 'user'"):
        prepare(path, "table", columns={"item": name})


def test_item_files_have_no_reserved_names(tmp_path: Path) -> None:
    (tmp_path / "user_sequence.txt").write_text("u x y z\n")
    (tmp_path / "item_meta.tsv").write_text("item_id\ttitle\ttitle__texts\tbrand\nx\tX\tmine\t\n")
    (tmp_path / "item_text.tsv").write_text("item_id\ttext\tbrand\nx\tother\tacme\ny\tY\t\n")
    frame = prepare(tmp_path, "sequences").catalogue.frame
    assert frame.select("title", "title__texts", "brand").row(0) == ("X", "mine", "acme")
    assert frame["title"].to_list() == ["X", "Y", None]


HEADERLESS = "A1,B003,5.0,1400000300\nA1,B001,5.0,1400000100\nA1,B002,5.0,1400000200\n"


def test_a_log_without_header_line_keeps_its_first_row(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(HEADERLESS)
    columns = {"user": "1", "item": "2", "weight": "3", "timestamp": "4"}
    dataset = prepare(path, "table", columns=columns, no_header=True)
    assert [dataset.catalogue.ids[item] for item in dataset.history_of("A1")] == ["B001", "B002", "B003"]
    assert dataset.weights is not None
    path.write_text(HEADERLESS + "A1,,5.0,1\n")
    with pytest.raises(PalateError, match=r"log\.csv, row 4: no value in column '2'"):
        prepare(path, "table", columns=columns, no_header=True)


@pytest.mark.parametrize(
    ("text", "columns", "words"),
    [
        (HEADERLESS, {}, "no column 'user'.*--no-header --columns user=1,item=2"),
        (
            HEADERLESS,
            {"user": "A1", "item": "B003", "timestamp": "1400000300"},
            "seems to be an interaction.*'1400000300' is a value.*--no-header.*--columns user=1,item=2,timestamp=4",
        ),
        (
            "ann,x\nann,y\nann,z\nbob,x\n",
            {"user": "ann", "item": "x"},
            "'ann' comes again in its column.*--no-header.*--columns user=1,item=2",
        ),
        ("user,item\nu,x\nu,y\nuser,item\n", {}, "'user' comes again.*or correct the first line"),
    ],
)
@pytest.mark.parametrize("reader", ["table", "interactions"])
def test_a_first_line_that_is_an_interaction_is_noticed(
    tmp_path: Path, reader: str, text: str, columns: dict[str, str], words: str
) -> None:
    (tmp_path / "interactions.csv").write_text(text)
    with pytest.raises(PalateError, match=words):
        prepare(tmp_path / "interactions.csv", reader, columns=columns)


def test_columns_that_are_numbered_by_their_header_line_are_read(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("0,1,2\n0,x,1\n0,y,2\n0,z,3\n")
    dataset = prepare(path, "table", columns={"user": "0", "item": "1", "timestamp": "2"})
    assert dataset.manifest["read"]["interactions"] == 3


def test_a_folder_with_parquet_and_text_is_read_whole(tmp_path: Path) -> None:
    LOG.head(3).write_parquet(tmp_path / "2.parquet")
    csv(tmp_path / "1.csv", LOG.tail(3))
    dataset = prepare(tmp_path, "table")
    assert dataset.user_ids.to_list() == ["b", "a"]
    assert dataset.manifest["read"]["interactions"] == 6
    assert list(dataset.manifest["source"]["files"]) == ["1.csv", "2.parquet"]
    (tmp_path / "3.csv").write_text("user,item,timestamp\nc,x,1\nc,,2\n")
    with pytest.raises(PalateError, match=r"3\.csv, row 3: no value in column 'item'"):
        prepare(tmp_path, "table")


@pytest.mark.parametrize("name", ["2.csv.zip", "2.CSV.bz2", "2.xlsx", "2.parquet.zst", "2.jsonl.gz", "2.pq"])
def test_a_table_that_cannot_be_read_is_not_left_out(tmp_path: Path, name: str) -> None:
    csv(tmp_path / "1.csv", LOG)
    for harmless in ("notes.md", ".2.csv.crc", "_SUCCESS", "images.zip", ".hidden.csv"):
        (tmp_path / harmless).write_text("x")
    assert prepare(tmp_path, "table").manifest["read"]["interactions"] == 6
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(PalateError, match=f"{name} cannot be read, and 1.csv beside it can"):
        prepare(tmp_path, "table")


@pytest.mark.parametrize("times", [[1, 2, 3], ["2020-01-01", "2020-01-02", "2020-01-03"]])
def test_a_part_with_a_header_line_alone_is_no_part_with_other_times(tmp_path: Path, times: list[Any]) -> None:
    (tmp_path / "0.csv").write_text("user,item,timestamp\n")
    csv(tmp_path / "1.csv", LOG.head(3).with_columns(timestamp=pl.Series(times)))
    (tmp_path / "2.csv").write_text("user,item,timestamp\n\n")
    dataset = prepare(tmp_path, "table")
    assert dataset.manifest["read"]["interactions"] == 3
    assert dataset.manifest["reader_report"]["files_without_rows"] == ["0.csv", "2.csv"]
    assert sorted(dataset.manifest["source"]["files"]) == ["0.csv", "1.csv", "2.csv"]
    (tmp_path / "3.csv").write_text(f"user,item,timestamp\nc,x,{times[0]}\nc,,{times[1]}\n")
    with pytest.raises(PalateError, match=r"3\.csv, row 3: no value in column 'item'"):
        prepare(tmp_path, "table")


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_bytes(b"\xef\xbb\xbf[train]\nseed = 1\n")
    assert read_toml(tmp_path / "recipe.toml") == {"train": {"seed": 1}}
    for text in (b"user,item\nu,x\nu,y\nu,z\n", b'"user","item"\nu,x\nu,y\nu,z\n'):
        (tmp_path / "log.csv").write_bytes(b"\xef\xbb\xbf" + text)
        assert prepare(tmp_path / "log.csv", "table").catalogue.ids[1:] == ["x", "y", "z"]
    (tmp_path / "log.csv").write_bytes(b"\xef\xbb\xbfu,x\nu,y\nu,z\n")
    bare = prepare(tmp_path / "log.csv", "table", columns={"user": "1", "item": "2"}, no_header=True)
    assert bare.user_ids.to_list() == ["u"]
    (tmp_path / "user_sequence.txt").write_bytes(b"\xef\xbb\xbfu x y z\n")
    assert prepare(tmp_path, "sequences").user_ids.to_list() == ["u"]


def test_frames_are_not_told_of_options(tmp_path: Path) -> None:
    frame = LOG.with_columns(weight=pl.lit("?"))
    with pytest.raises(
        PalateError, match=r"row 1: '\?' in column 'weight' is not a number\. Correct or remove the row\.$"
    ):
        from_frames(frame, weight="weight")
