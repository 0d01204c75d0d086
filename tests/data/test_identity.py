"""One rule of identity for logs, catalogues and fields; what may be two things is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from palate.data.catalogue import Catalogue
from palate.data.frames import from_frames
from palate.data.identity import check_id, check_ids
from palate.data.prepare import prepare
from palate.errors import PalateError


def log_of(items: list[str], users: list[str] | None = None) -> str:
    rows = zip(users or ["u"] * len(items), items, strict=True)
    return "user,item\n" + "".join(f"{user},{item}\n" for user, item in rows)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (["10.0", "11", "12"], "the item id '10.0' may mean the whole number"),
        (["10", "1.23457E+12", "12"], "'1.23457E\\+12' is a number that was rounded"),
    ],
)
def test_ids_of_a_log_that_may_be_another(tmp_path: Path, items: list[str], message: str) -> None:
    (tmp_path / "log.csv").write_text(log_of(items))
    with pytest.raises(PalateError, match=f"log.csv: .*{message}"):
        prepare(tmp_path / "log.csv", "table")
    (tmp_path / "log.csv").write_text(log_of(["a"] * 3, items))
    with pytest.raises(PalateError, match=message.replace("item", "user")):
        prepare(tmp_path / "log.csv", "table")


@pytest.mark.parametrize(
    "text", ["10.0", "10.", "+1.00", "1.23E+12", "5e+3", "10", "1.5", "12e4", "10.0 ", "10.0\n", "٣.0"]
)
def test_a_single_id_follows_the_rule_of_many(text: str) -> None:
    def refuses(check: Callable[[], object]) -> str | None:
        try:
            check()
        except PalateError as error:
            return str(error)
        return None

    assert refuses(lambda: check_id(text, "here")) == refuses(lambda: check_ids([text], "here"))


def test_ids_that_only_look_odd_stay_as_they_are(tmp_path: Path) -> None:
    odd = ["007", "7", "1.5", "12e4", "v1.0", "a b", " 7", "-3"]
    (tmp_path / "log.csv").write_text(log_of(odd))
    assert prepare(tmp_path / "log.csv", "table").catalogue.ids[1:] == odd


@pytest.mark.parametrize("ids", [["7.0", "8.0"], [7.0, 8.0], [True, False], [b"7", b"8"]])
def test_ids_of_a_catalogue(ids: object) -> None:
    log = pl.DataFrame({"user": ["u"] * 3, "item": ["7", "8", "9"]})
    with pytest.raises(PalateError, match=r"catalogue.*(may mean the whole number|Ids must be text or whole numbers)"):
        from_frames(log, pl.DataFrame({"item_id": pl.Series(ids), "title": ["a", "b"]}))


@pytest.mark.parametrize("columns", ["user,item,item_id", "user,user_id,item"])
def test_two_columns_of_ids_are_refused_unless_one_is_named(tmp_path: Path, columns: str) -> None:
    names = columns.split(",")
    rows = [[name[:4] + str(n if name == names[-1] else 0) for name in names] for n in range(3)]
    (tmp_path / "log.csv").write_text(f"{columns}\n" + "".join(",".join(row) + "\n" for row in rows))
    with pytest.raises(PalateError, match=f"'{names[-2]}' and '{names[-1]}'|'user' and 'user_id'"):
        prepare(tmp_path / "log.csv", "table")
    chosen = prepare(tmp_path / "log.csv", "table", columns={"user": names[0], "item": names[-1]})
    assert chosen.catalogue.ids[1:] == ["item0", "item1", "item2"]


def test_two_columns_of_ids_in_a_catalogue() -> None:
    log = pl.DataFrame({"user": ["u"] * 3, "item": ["7", "8", "9"]})
    items = pl.DataFrame({"item": ["Cup", "Mug"], "itemId": ["7", "8"]})
    with pytest.raises(PalateError, match="'item' and 'itemId', and either may be the id"):
        from_frames(log, items)
    named = from_frames(log, items.rename({"itemId": "item_id"}))
    assert named.catalogue.frame["item"].to_list() == ["Cup", "Mug", None]


def test_codes_and_long_numbers_of_a_field_stay_text(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(log_of(["a", "b", "c"]))
    (tmp_path / "items.csv").write_text(
        "item_id,code,barcode,price,size,new\na,0071,12345678901234567890,1.5,3,true\nb,12,2,2,,false\n"
    )
    frame = prepare(tmp_path / "log.csv", "table", catalogue=tmp_path / "items.csv").catalogue.frame
    assert frame["code"].to_list() == ["0071", "12", None]
    assert frame["barcode"].to_list() == ["12345678901234567890", "2", None]
    assert frame["price"].to_list() == [1.5, 2.0, None]
    assert frame["size"].to_list() == [3, None, None]
    assert frame["new"].to_list() == [True, False, None]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("year=1999", [True, False, False]),
        ("year=1999.0", [True, False, False]),
        ("sizes=3", [False, True, False]),
        ("count=9007199254740993", [False, True, False]),
        ("code=71", [False, False, True]),
        ("code=0071", [True, False, False]),
        ("new=TRUE", [True, False, True]),
    ],
)
def test_a_number_is_the_same_however_it_is_written(condition: str, expected: list[bool]) -> None:
    frame = pl.DataFrame(
        {
            "item_id": ["a", "b", "c"],
            "title": [None, None, None],
            "image": [None, None, None],
            "year": [1999.0, None, 2001.0],
            "sizes": [[1.0], [2.0, 3.0], None],
            "count": [9007199254740992, 9007199254740993, 1],
            "code": ["0071", None, "71"],
            "new": [True, False, True],
        }
    )
    assert Catalogue(frame).select(condition).tolist() == [False, *expected]
