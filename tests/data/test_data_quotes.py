"""Quotes in text tables: what encloses cells, what is text, and which row is named when that cannot be said."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from palate.data.prepare import prepare
from palate.data.readers.lines import row_starts
from palate.data.readers.quotes import find_quote
from palate.data.readers.text import scan_delimited
from palate.errors import PalateError

HEADER = "uid,sku,ts,name"
COLUMNS = {"user": "uid", "item": "sku", "timestamp": "ts"}


def log(path: Path, *names: str, separator: str = ",") -> Path:
    """A log of one person, whose rows end with the names."""
    rows = [f"ann,i{row},{row},{name}" for row, name in enumerate(names)]
    text = "\n".join([HEADER, *rows]) + "\n"
    path.write_text(text.replace(",", separator) if separator != "," else text)
    return path


QUOTES = [
    # cells, the quote that encloses cells
    (('"a, b"', "c", '"d ""e"""', ""), '"'),
    (("plain", "c", "d", "e"), '"'),
    (('24" screen', "c", "d", "e"), None),
    (('24" screen', "c", '27" screen', "e"), None),
    (('6\' 2" tall and 3" wide', "c", "d", "e"), None),
    (('"one\ntwo"', "c", '"three\n\nfour, five"', "e"), '"'),
    (('"one\ntwo, ""three"""', "c", '"d"', "e"), '"'),
    (('""', "c", '""""', '"""a"""'), '"'),
]


@pytest.mark.parametrize(("names", "quote"), QUOTES)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_double_quotes_enclose_cells_where_all_of_them_can(
    tmp_path: Path, names: tuple[str, ...], quote: str | None, end: str
) -> None:
    path = log(tmp_path / "log.csv", *names)
    path.write_bytes(path.read_bytes().replace(b"\n", end.encode()))
    assert find_quote(path, ",") == quote
    dataset = prepare(path, "table", columns=COLUMNS)
    assert dataset.manifest["read"] == {"users": 1, "items": 4, "interactions": 4}
    assert dataset.catalogue.ids[1:] == ["i0", "i1", "i2", "i3"]
    packed = tmp_path / "log.csv.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert prepare(packed, "table", columns=COLUMNS).fingerprint == dataset.fingerprint


def test_a_lone_quote_in_a_tsv_is_text_and_swallows_nothing(tmp_path: Path) -> None:
    path = log(tmp_path / "log.tsv", "mug", '"Odd', "mug", "mug", "mug", 'Sue"', "mug", "mug", separator="\t")
    dataset = prepare(path, "table", columns=COLUMNS)
    assert dataset.manifest["read"] == {"users": 1, "items": 8, "interactions": 8}
    assert dataset.manifest["reader_report"]["quotes_read_as_text"] == ["log.tsv"]
    quoted = log(tmp_path / "b.tsv", '"a\tb"', '"c"', "d", "e", separator="\t")
    assert find_quote(quoted, "\t") == '"'


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (
            ("mug", '"Odd', "mug", "mug", 'Sue"', "mug"),
            r"row 3: a quote \(\"\) opens a cell that is closed only in ano",
        ),
        (("mug", '"Odd', "mug", "mug"), r"row 3: a quote \(\"\) stands in the middle of a cell, or is not closed"),
        (('"a, b"', "c", '24" screen', "d"), r"row 4: a quote .* in the middle"),
        (('"a\nb"', "c", '"d"e', "f"), r"row 5: a quote .* in the middle"),
        (('"a\nb"c', "c", '"d"', "f"), r"row 2: a quote .* in the middle"),
    ],
)
def test_quotes_that_say_two_things_are_refused_with_their_row(
    tmp_path: Path, names: tuple[str, ...], words: str
) -> None:
    path = log(tmp_path / "log.csv", *names)
    with pytest.raises(PalateError, match=rf"log\.csv, {words}.*--quote"):
        prepare(path, "table", columns=COLUMNS)


def test_quote_settles_what_quotes_mean(tmp_path: Path) -> None:
    path = log(tmp_path / "log.csv", "mug", '"Odd', "mug", "mug", 'Sue"', "mug")
    as_text = prepare(path, "table", columns=COLUMNS, quote="none")
    assert as_text.manifest["read"]["interactions"] == 6
    assert as_text.manifest["reader_options"]["quote"] == "none"
    assert prepare(path, "table", columns=COLUMNS, quote='"').manifest["read"]["interactions"] == 3
    single = log(tmp_path / "single.csv", "'a, b'", 'c"', "d", "e")
    assert prepare(single, "table", columns=COLUMNS, quote="'").manifest["read"]["interactions"] == 4
    for wrong in ("x", '""', ""):
        with pytest.raises(PalateError, match=f"--quote {wrong} is not a character"):
            prepare(path, "table", columns=COLUMNS, quote=wrong)


def test_quotes_of_a_catalogue_are_judged_too(tmp_path: Path) -> None:
    path = log(tmp_path / "log.csv", "a", "b", "c", "d")
    items = tmp_path / "items.csv"
    items.write_text('item_id,title\ni0,24" screen\ni1,mug\ni2,27" screen\ni3,pot\n')
    assert prepare(path, "table", columns=COLUMNS, catalogue=items).catalogue.titles[1] == '24" screen'
    items.write_text('item_id,title\ni0,"a, b"\ni1,24" screen\n')
    with pytest.raises(PalateError, match=r"items\.csv, row 3: a quote"):
        prepare(path, "table", columns=COLUMNS, catalogue=items)
    items.write_text("item_id,title\ni0,a\ni1,a, b\n")
    with pytest.raises(PalateError, match=r"items\.csv, row 3: 3 cells, not 2"):
        prepare(path, "table", columns=COLUMNS, catalogue=items)


ROWS = [
    ('a,b\n"1\n2",3\n\n4,\n', [2, 5]),
    ('\n\na,b\n1,2\r\n\r\n"x\r\n\r\ny",3\r\n5,6\r\n', [4, 6, 9]),
    ('\ufeff"a\nb",c\n1,2\n,\n3,4', [3, 5]),
]


@pytest.mark.parametrize(("text", "starts"), ROWS)
def test_a_row_is_the_line_in_which_it_begins(tmp_path: Path, text: str, starts: list[int]) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode())
    table = scan_delimited(path, ",")
    assert [table.at(row) for row in range(len(starts))] == [f"{path}, row {start}" for start in starts]
    numbered = table.numbered.collect()
    assert table.starts(numbered[table.index].to_list()) == starts


def test_messages_count_rows_alike(tmp_path: Path) -> None:
    start = 'uid,sku,ts,review\nann,a,3,"one\ntwo\n\nthree"\nbob,a,4,"x\ny"\n'
    for row, what in (("ann,,1,z", "no value"), ("ann,b,x,z", "'x' in column 'ts'"), ("ann,b,1,z,w", "5 cells")):
        (tmp_path / "log.csv").write_text(f"{start}{row}\n")
        with pytest.raises(PalateError, match=rf"log\.csv, row 8: {what}"):
            prepare(tmp_path / "log.csv", "table", columns=COLUMNS)


def test_lines_of_a_file_without_quotes_are_rows(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('a\tb\n"1\t2\n3\t4"\n')
    assert list(row_starts(tmp_path / "a.tsv", None)) == [1, 2, 3]


@pytest.mark.parametrize(
    ("reader", "name", "text"),
    [
        (
            "hm",
            "transactions.csv",
            't_dat,customer_id,article_id\n2020-09-21,"a",24" x\n2020-09-22,"a",b\n2020-09-22,"a",c\n',
        ),
        ("interactions", "interactions.csv", 'user,item\n"a",24" x\n"a",b\n"a",c\n'),
        ("microlens", "Mini_pairs.csv", 'user,item,timestamp\n"a",24" x,3\n"a",b,4\n"a",c,5\n'),
    ],
)
def test_other_readers_judge_quotes_and_take_the_option(tmp_path: Path, reader: str, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(PalateError, match=rf"{name}, row 2: a quote"):
        prepare(tmp_path, reader)
    assert prepare(tmp_path, reader, quote="none").user_ids.to_list() == ['"a"']
