"""Tables of recommendations: every ending, and catalogue texts that a spreadsheet would run."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import polars as pl
import pytest

from palate.errors import PalateError
from palate.rankers import remote_table, spreadsheet
from palate.rankers.tables import check_table, table_writer

ROWS = pl.DataFrame(
    {
        "user": ["u1", "+u2", "u3"],
        "rank": [1, 2, 3],
        "title": ["=HYPERLINK(1)", "@cmd, or so", None],
        "price": [1.5, None, float("nan")],
        "tags": [["new", "cheap"], [], None],
        "delta": ["-3", "-3 a", "+1.5e3"],
        "new": [True, False, None],
    },
    schema_overrides={"rank": pl.Int32},
)


def write(path: Path | str, rows: pl.DataFrame = ROWS) -> None:
    with table_writer(path, rows.schema, len(rows)) as append:
        append(rows.head(2))
        append(rows.tail(1))


def test_parquet_and_json_lines_keep_everything(tmp_path: Path) -> None:
    write(tmp_path / "rows.parquet")
    assert pl.read_parquet(tmp_path / "rows.parquet").equals(ROWS)
    write(tmp_path / "rows.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert lines[0] == {**ROWS.row(0, named=True)}
    assert lines[2]["price"] is None


def test_no_formula_in_a_text_file(tmp_path: Path) -> None:
    write(tmp_path / "rows.csv", ROWS.rename({"price": "=price"}))
    assert (tmp_path / "rows.csv").read_text().splitlines() == [
        "user,rank,title,'=price,tags,delta,new",
        'u1,1,\'=HYPERLINK(1),1.5,"new, cheap",-3,true',
        '\'+u2,2,"\'@cmd, or so",,"",\'-3 a,false',  # a plain number is no formula
        "u3,3,,,,+1.5e3,",
    ]


def test_a_workbook_holds_texts_numbers_and_truth_values(tmp_path: Path) -> None:
    pytest.importorskip("xlsxwriter")
    write(tmp_path / "rows.xlsx")
    with zipfile.ZipFile(tmp_path / "rows.xlsx") as book:
        sheet = ElementTree.fromstring(book.read("xl/worksheets/sheet1.xml"))
    space = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
    cells = {
        cell.get("r"): (cell.get("t"), "".join(cell.itertext())) for cell in sheet.iter(f"{space}c")
    }  # fmt: skip
    assert not list(sheet.iter(f"{space}f"))  # no formula
    assert cells["C2"] == ("inlineStr", "=HYPERLINK(1)")
    assert cells["A3"] == ("inlineStr", "+u2")
    assert cells["F2"] == ("inlineStr", "-3")
    assert cells["D2"] == (None, "1.5")
    assert cells["E2"] == ("inlineStr", "new, cheap")
    assert cells["G2"] == ("b", "1")
    assert "D3" not in cells
    assert "D4" not in cells


def test_a_workbook_that_cannot_be_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spreadsheet, "find_spec", lambda name: object())
    with pytest.raises(PalateError, match="would have 1,048,576 rows, and a sheet of Excel holds 1,048,575"):
        check_table("rows.xlsx", 1_048_576)
    check_table("rows.xlsx", 1_048_575)
    check_table("rows.csv", 1_048_576)
    monkeypatch.setattr(spreadsheet, "find_spec", lambda name: None)
    with pytest.raises(PalateError, match=r"needs the package XlsxWriter. Run `pip install 'palate\[excel\]'`"):
        write(tmp_path / "rows.xlsx")
    assert list(tmp_path.iterdir()) == []


def test_at_a_url_there_are_parts_and_a_mark_when_they_are_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_table, "_ROWS", 2)
    url = f"file://{tmp_path}/shop/recs/"
    write(url)
    folder = tmp_path / "shop/recs"
    assert sorted(path.name for path in folder.iterdir()) == ["_SUCCESS", "part-00000.parquet", "part-00001.parquet"]
    assert pl.read_parquet(folder / "*.parquet").equals(ROWS)
    with pytest.raises(PalateError, match=r"shop/recs exists already"):
        check_table(url)
    (folder / "_SUCCESS").unlink()  # of an interrupted call
    (folder / "part-00007.parquet").touch()
    write(url, ROWS.head(0))
    assert sorted(path.name for path in folder.iterdir()) == ["_SUCCESS", "part-00000.parquet"]
    assert pl.read_parquet(folder / "*.parquet").schema == ROWS.schema


def test_a_url_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    for url, problem in [
        (f"file://{tmp_path}", "exists already"),
        ("nowhere://bucket/recs", "there is no file system for nowhere://"),
        (f"file://{tmp_path}/notes.txt/recs", "cannot be read"),
    ]:
        with pytest.raises(PalateError, match=problem), table_writer(url, ROWS.schema):
            raise AssertionError(url)


def test_in_memory() -> None:
    write("memory://recs/today")
    with pytest.raises(PalateError, match="exists already"):
        check_table("memory://recs/today")
