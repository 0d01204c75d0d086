"""Ids, types and pictures in the table of new items follow the rules of `palate prepare`."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from worlds import HELD_OUT_FILM

from palate.bundle import Bundle, add_items
from palate.bundle.new_items import _typed
from palate.errors import PalateError

ROW = {"title": "space story 7", "tags": ["space", "film"], "year": 1997}


def table(path: Path, ids: pl.Series | list[Any], **columns: Any) -> Path:
    rows = {name: [value] * len(ids) for name, value in ROW.items()} | columns
    pl.DataFrame({"item_id": ids, **rows}).write_parquet(path)
    return path


@pytest.mark.parametrize(
    ("ids", "told"),
    [
        ([100.0, 101.0], "the column 'item_id' holds Float64. Ids must be text or whole numbers"),
        ([True, False], "the column 'item_id' holds Boolean"),
        ([b"x", b"y"], "the column 'item_id' holds Binary"),
        (["100.0", "x"], "the item id '100.0' may mean the whole number"),
        (["x ", "y"], "row 1: item 'x ' begins or ends with a blank"),
        (["space-1", "y"], "row 1: item 'space-1' is in the bundle already"),
        ([" space-1", "y"], "begins or ends with a blank"),
    ],
)
def test_ids_that_may_be_another(text_bundle: Path, tmp_path: Path, ids: list[Any], told: str) -> None:
    with pytest.raises(PalateError, match=told):
        add_items(text_bundle, table(tmp_path / "new.parquet", ids), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_whole_numbers_are_ids(text_bundle: Path, tmp_path: Path) -> None:
    assert add_items(text_bundle, table(tmp_path / "new.parquet", [7, 8]), tmp_path / "out").ids == ["7", "8"]


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"year": [1997.5]}, "row 1: '1997.5' in column 'year' is no Int64"),
        ({"title": [10.0]}, "the column 'title' holds Float64, not String"),
        ({"tags": [[1.0]]}, r"the column 'tags' holds List\(Float64\), not List\(String\)"),
        ({"title": [b"x"]}, "lacks the column 'title'|holds Binary"),
    ],
)
def test_values_that_would_change_are_refused(text_bundle: Path, tmp_path: Path, columns: Any, told: str) -> None:
    with pytest.raises(PalateError, match=told):
        add_items(text_bundle, table(tmp_path / "new.parquet", ["x"], **columns), tmp_path / "out")


@pytest.mark.parametrize(
    ("kind", "cell", "value", "wrong"),
    [
        (pl.Boolean(), "true", True, "yes"),
        (pl.Date(), "2026-05-01", date(2026, 5, 1), "in May"),
        (pl.Datetime("ms"), "2026-05-01T10:00:00", datetime(2026, 5, 1, 10), "noon"),
    ],
)
def test_cells_of_a_text_file_in_the_types_of_the_catalogue(
    kind: pl.DataType, cell: str, value: object, wrong: str
) -> None:
    read = _typed(Path("new.csv"), [2, 3], pl.Series("field", [cell, None]), kind)
    assert read.to_list() == [value, None]
    with pytest.raises(PalateError, match=f"new.csv, row 2: '{wrong}' in column 'field' is no"):
        _typed(Path("new.csv"), [2], pl.Series("field", [wrong]), kind)


def test_columns_of_other_types_are_left_out_by_name(text_bundle: Path, tmp_path: Path) -> None:
    made = add_items(text_bundle, table(tmp_path / "new.parquet", ["x"], blob=[b"x"], year=[1997.0]), tmp_path / "out")
    assert made.notes == ["columns that hold no text, numbers or lists were left out: blob (Binary)"]
    assert Bundle.load(made.folder).items.facts(len(Bundle.load(made.folder).items))["year"] == 1997


def test_html_goes_where_that_is_chosen(text_bundle: Path, tmp_path: Path) -> None:
    new = table(tmp_path / "new.parquet", ["x"], title=["<b>space</b> story &amp; 7"])
    for clean, title in ((False, "<b>space</b> story &amp; 7"), (True, "space story & 7")):
        added = add_items(text_bundle, new, tmp_path / f"out{clean}", clean_text=clean)
        assert added.notes == (["texts cleaned: 1"] if clean else [])
        made = Bundle.load(added.folder)
        assert made.items.facts(len(made.items))["title"] == title


@pytest.mark.parametrize("packed", [False, True])
def test_pictures_inside_the_table(full_bundle: Path, films: Path, tmp_path: Path, packed: bool) -> None:
    data = (films.parent / "pictures" / f"{HELD_OUT_FILM}.png").read_bytes()
    cells = [{"bytes": data, "path": "a.png"}, {"bytes": b"none", "path": None}] if packed else [data, b"none"]
    new = table(tmp_path / "new.parquet", [HELD_OUT_FILM, "y"], image=cells)
    made = add_items(full_bundle, new, tmp_path / "out")
    assert made.coverage["image"] == 1
    assert "pictures unknown: 1 left out" in made.notes
    named = add_items(
        full_bundle, table(tmp_path / "b.parquet", [HELD_OUT_FILM], image=[f"{HELD_OUT_FILM}.png"]), tmp_path / "b",
        images=films.parent / "pictures",
    )  # fmt: skip
    both = [Bundle.load(one.folder) for one in (made, named)]
    place = both[0].items.index_of(HELD_OUT_FILM)
    assert place == both[1].items.index_of(HELD_OUT_FILM)
    assert both[0].picture(place).read_bytes() == both[1].picture(place).read_bytes()
    with pytest.raises(PalateError, match="holds pictures itself"):
        add_items(full_bundle, new, tmp_path / "c", images=films.parent / "pictures")


def test_columns_called_otherwise(text_bundle: Path, tmp_path: Path) -> None:
    rows = {"sku": ["x"], "Name, long": ["space story 7"], "tags": [["space"]], "jahr": [1997], "year": [1900]}
    pl.DataFrame(rows).write_parquet(tmp_path / "new.parquet")
    names = {"item_id": "sku", "title": "Name, long", "year": "jahr"}
    made = Bundle.load(add_items(text_bundle, tmp_path / "new.parquet", tmp_path / "out", item_columns=names).folder)
    row = made.items.facts(made.items.index_of("x") or 0)
    assert (row["title"], row["year"]) == ("space story 7", 1997)


def test_all_wrong_columns_are_named_at_once(text_bundle: Path, tmp_path: Path) -> None:
    pl.DataFrame({"sku": ["x"], "name": ["space"]}).write_parquet(tmp_path / "new.parquet")
    with pytest.raises(PalateError) as refused:
        add_items(
            text_bundle, tmp_path / "new.parquet", tmp_path / "out", item_columns={"title": "nmae", "colr": "name"}
        )  # fmt: skip
    assert "has no column 'nmae' for 'title'" in refused.value.message
    assert "cannot fill 'colr', which is no field of the bundle" in refused.value.message
    assert "lacks the columns 'item_id', 'tags', which the model reads" in refused.value.message
    assert "It has: sku, name." in str(refused.value.remedy)
    assert "--item-columns item_id=NAME,tags=NAME" in str(refused.value.remedy)
