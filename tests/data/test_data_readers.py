"""What is particular to each reader: odd files, odd cells, and the sentence that names them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from palate.data.dataset import Dataset
from palate.data.prepare import prepare
from palate.errors import PalateError

LONG = [(user, item, 10 * item) for user in "ab" for item in range(1, 5)]


def refuses(source: Path, reader: str, words: str, **options: Any) -> None:
    with pytest.raises(PalateError, match=words):
        prepare(source, reader, **options)


def field(dataset: Dataset, item: str, name: str) -> Any:
    return dataset.catalogue.frame.filter(pl.col("item_id") == item)[name].to_list()[0]


def ratings(folder: Path, *extra: str) -> Path:
    rows = [f"{user}\t{item}\t5\t{time}" for user, item, time in LONG]
    (folder / "u.data").write_text("\n".join([*rows, *extra]) + "\n")
    return folder


# MovieLens


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("a\t9\tfive\t50", r"u\.data, row 9: 'five' in column 'weight' is not a number"),
        ("a\t9\tnan\t50", r"u\.data, row 9: 'nan' in column 'weight'"),
        ("a\t9\t5\t", r"u\.data, row 9: no value in column 'timestamp'"),
        ("a\t9\t5\t12:30", r"u\.data, row 9: '12:30' in column 'timestamp'"),
        ("a\t\t5\t50", r"u\.data, row 9: no value in column 'item'"),
        ("a\t9", r"u\.data, row 9: no value in column 'weight'"),
        ("a\t9\t5\t50\tmore", r"u\.data, row 9: 5 cells, not 4"),
        ("a\t9\t5\t99999999999999", "years"),
    ],
)
def test_a_broken_rating_is_named_by_file_and_row(tmp_path: Path, row: str, words: str) -> None:
    refuses(ratings(tmp_path, row), "movielens", words)


def test_a_broken_row_of_ratings_dat_and_csv_is_named(tmp_path: Path) -> None:
    (tmp_path / "ratings.dat").write_text("1::2::5::100\n1::3::5\n")
    refuses(tmp_path, "movielens", r"ratings\.dat, row 2: no value in column 'timestamp'")
    (tmp_path / "ratings.dat").write_text("1::2::5::100\n::3::5::100\n")
    refuses(tmp_path, "movielens", r"ratings\.dat, row 2: no value in column 'user'")
    (tmp_path / "ratings.dat").unlink()
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,2,5,100\n1,3,x,100\n")
    refuses(tmp_path, "movielens", r"ratings\.csv, row 3: 'x' in column 'rating'")
    (tmp_path / "ratings.csv").write_text("userId,movie,rating,timestamp\n1,2,5,100\n")
    refuses(tmp_path, "movielens", r"ratings\.csv has no column 'movieId'")


def test_blank_lines_are_no_rows(tmp_path: Path) -> None:
    assert len(prepare(ratings(tmp_path, "", "c\t9\t5\t1", "", ""), "movielens")) == 9


def test_a_part_of_100k_is_not_the_whole(tmp_path: Path) -> None:
    (ratings(tmp_path) / "u1.base").write_text("a\t1\t5\t1\n")
    refuses(tmp_path / "u1.base", "movielens", "u1.base is none of u.data, ratings.dat and ratings.csv")
    (tmp_path / "ratings.dat").write_text("".join(f"1::{item}::5::{item}\n" for item in range(3)))
    assert len(prepare(tmp_path / "ratings.dat", "movielens")) == 3
    assert len(prepare(tmp_path / "u.data", "movielens")) == len(prepare(tmp_path, "movielens")) == 8


def test_films_of_100k_in_latin_1_with_year_genres_poster_and_plot(tmp_path: Path) -> None:
    flags = ["0"] * 19
    flags[5] = flags[16] = "1"
    films = [
        f"1|Cité des enfants perdus, La (1995)|01-Jan-1995||u|{'|'.join(flags)}",
        f"2|unknown||||{'|'.join(['1', *['0'] * 18])}",
        f"3|1984 Revisited|01-Jan-1995||u|{'|'.join(['0'] * 19)}",
    ]
    (ratings(tmp_path) / "u.item").write_bytes("\n".join(films).encode("latin-1"))
    (tmp_path / "plots.csv").write_text(
        'item_id,title,year,genres,director,plot\n1,City of Lost Children,1996,"Fantasy, Sci-Fi",Jeunet,"A man, old."\n'
        '3,Other,1999,"Drama, War",,\n4,Only in plots,2001,"Drama, War",Someone,Nothing\n'
    )
    (tmp_path / "posters").mkdir()
    (tmp_path / "posters" / "1.jpg").write_bytes(b"jpeg")
    dataset = prepare(tmp_path, "movielens")
    rows = {row["item_id"]: row for row in dataset.catalogue.frame.to_dicts()}
    assert rows["1"] == {
        "item_id": "1",
        "title": "Cité des enfants perdus, La",
        "image": "posters/1.jpg",
        "year": 1995,
        "genres": ["Comedy", "Thriller"],
        "director": "Jeunet",
        "plot": "A man, old.",
    }
    assert (rows["2"]["title"], rows["2"]["year"], rows["2"]["genres"]) == (None, None, None)
    assert (rows["3"]["title"], rows["3"]["year"], rows["3"]["genres"]) == ("1984 Revisited", 1999, ["Drama", "War"])
    assert rows["4"]["title"] == "Only in plots"
    assert dataset.catalogue.texts()[0] == "Cité des enfants perdus, La. Comedy, Thriller. Jeunet. A man, old."


def test_lines_of_films_end_at_line_feeds_only(tmp_path: Path) -> None:
    flags = "|".join(["0"] * 18)
    (ratings(tmp_path) / "u.item").write_bytes(
        f"1|A\x85B (1995)|||u|{flags}|1\r\n2|C (1996)|||u|{flags}|1\r\n".encode("latin-1")
    )
    dataset = prepare(tmp_path, "movielens")
    assert [field(dataset, item, "title") for item in ("1", "2")] == ["A\x85B", "C"]
    assert field(dataset, "1", "genres") == ["Western"]


def test_films_of_movies_dat_and_csv(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text(
        "userId,movieId,rating,timestamp\n" + "".join(f"{u},{i},4.5,{t}\n" for u, i, t in LONG)
    )
    (tmp_path / "movies.csv").write_text(
        'movieId,title,genres\n1,"Dinner, Late (2001)",Drama|War\n2,No year,(no genres listed)\n'
        "3,Series (2001-2004),War\n"
    )
    dataset = prepare(tmp_path, "movielens")
    assert (field(dataset, "1", "title"), field(dataset, "1", "year")) == ("Dinner, Late", 2001)
    assert field(dataset, "1", "genres") == ["Drama", "War"]
    assert (field(dataset, "2", "year"), field(dataset, "2", "genres")) == (None, None)
    assert (field(dataset, "3", "title"), field(dataset, "3", "year")) == ("Series", 2001)
    assert field(dataset, "4", "title") is None
    assert dataset.weights is not None
    assert set(dataset.weights.tolist()) == {4.5}


def test_a_film_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (ratings(tmp_path) / "u.item").write_text("1|Toy Story\n")
    refuses(tmp_path, "movielens", r"u\.item, row 1: 2 cells, not 24")


# Amazon


def reviews(path: Path, *extra: str | bytes, **changes: str) -> Path:
    keys = {"reviewerID": "reviewerID", "asin": "asin", "overall": "overall", "unixReviewTime": "unixReviewTime"}
    names = list((keys | changes).values())
    rows: list[str | bytes] = [json.dumps(dict(zip(names, (u, f"B{i}", 5.0, t), strict=True))) for u, i, t in LONG]
    lines = b"\n".join(row if isinstance(row, bytes) else row.encode() for row in [*rows, *extra]) + b"\n"
    path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)
    return path.parent


def test_malformed_reviews_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    good = json.dumps({"reviewerID": "c", "asin": "B9", "overall": "4.0", "unixReviewTime": 7, "helpful": [1, 2]})
    bad: list[str | bytes] = [
        '{"reviewerID": "c", "asin": ',
        "",
        '{"reviewerID": "c", "asin": "B1", "overall": 5.0}',
        '{"reviewerID": "", "asin": "B1", "overall": 5.0, "unixReviewTime": 3}',
        '{"reviewerID": "c", "asin": "B1", "overall": "five", "unixReviewTime": 3}',
        "[1, 2]",
        b'{"reviewerID": "\xff", "asin": "B1", "overall": 5.0, "unixReviewTime": 3}',
        good,
    ]
    dataset = prepare(reviews(tmp_path / "reviews_Mugs.json.gz", *bad), "amazon")
    assert dataset.manifest["reader_report"]["malformed_lines"] == 6
    assert dataset.manifest["reader_report"]["first_malformed_line"] == 9
    assert dataset.manifest["read"]["interactions"] == 9
    assert dataset.history_of("c").tolist() == [dataset.catalogue.index["B9"]]


def test_lines_are_counted_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palate.data.readers.json_lines._BLOCK", 200)
    dataset = prepare(reviews(tmp_path / "Mugs.json", "broken"), "amazon")
    report = dataset.manifest["reader_report"]
    assert (report["malformed_lines"], report["first_malformed_line"]) == (1, 9)
    assert len(dataset) == 8


def test_metadata_of_2014_are_python_literals_that_are_never_run(tmp_path: Path) -> None:
    folder = reviews(tmp_path / "reviews_Mugs_5.json")
    trap = tmp_path / "trap"
    product = {
        "asin": "B1",
        "title": "Mug &amp; saucer",
        "brand": "Acme",
        "price": 12.5,
        "categories": [["Home", "Kitchen"], ["Home", "Mugs"]],
        "description": "It's  round",
        "imUrl": "http://pictures.example/1.jpg",
    }
    lines = [repr(product), f"{{'asin': 'B2', 'title': open({str(trap)!r}, 'w')}}", "(" * 5000, "{'title': 'no id'}"]
    (folder / "meta_Mugs.json").write_text("\n".join(lines))
    dataset = prepare(folder, "amazon")
    assert not trap.exists()
    assert {name: field(dataset, "B1", name) for name in ("title", "brand", "price", "categories", "description")} == {
        "title": "Mug & saucer",
        "brand": "Acme",
        "price": 12.5,
        "categories": ["Home", "Kitchen", "Mugs"],
        "description": "It's round",
    }
    assert field(dataset, "B1", "image") is None
    assert field(dataset, "B2", "title") is None
    assert dataset.manifest["reader_report"]["metadata_malformed_lines"] == 3
    assert dataset.manifest["reader_report"]["metadata_first_malformed_line"] == 2


def test_metadata_of_2018_and_2023(tmp_path: Path) -> None:
    folder = reviews(tmp_path / "Mugs_5.json")
    products = [
        {
            "asin": "B1",
            "title": "var a; getTime()",
            "category": ["Home"],
            "description": ["a", "b"],
            "price": "$1,012.99",
        },
        {"asin": "B1", "title": "the same again"},
        {"parent_asin": "B2", "title": "Mug", "store": "Acme", "categories": [], "description": [], "price": "from 3"},
    ]
    (folder / "meta_Mugs.json").write_text("\n".join(map(json.dumps, products)))
    dataset = prepare(folder, "amazon")
    assert (field(dataset, "B1", "title"), field(dataset, "B1", "price")) == (None, 1012.99)
    assert (field(dataset, "B1", "categories"), field(dataset, "B1", "description")) == (["Home"], "a b")
    assert (field(dataset, "B2", "brand"), field(dataset, "B2", "price")) == ("Acme", None)
    assert field(dataset, "B2", "description") is None
    report = dataset.manifest["reader_report"]
    assert (report["titles_that_are_scripts"], report["catalogue_duplicates"]) == (1, 1)


def test_the_metadata_of_the_same_category_are_taken(tmp_path: Path) -> None:
    folder = reviews(tmp_path / "reviews_Mugs_5.json.gz")
    (folder / "meta_Mugs.json").write_text(json.dumps({"asin": "B1", "title": "right"}))
    (folder / "meta_Toys.json").write_text(json.dumps({"asin": "B1", "title": "wrong"}))
    assert field(prepare(folder, "amazon"), "B1", "title") == "right"


def test_several_reviews_files_are_refused_and_one_may_be_named(tmp_path: Path) -> None:
    reviews(tmp_path / "Mugs.json")
    reviews(tmp_path / "Toys.json")
    refuses(tmp_path, "amazon", r"Mugs\.json, Toys\.json")
    assert len(prepare(tmp_path / "Toys.json", "amazon")) == 8


def test_other_json_is_no_review(tmp_path: Path) -> None:
    (tmp_path / "things.jsonl").write_text('{"name": 1}\n')
    refuses(tmp_path, "amazon", r"things\.jsonl holds no Amazon reviews .*name")
    (tmp_path / "things.jsonl").write_text("a\nb\n")
    refuses(tmp_path, "amazon", "none of the first 100 lines is JSON")


def test_a_cut_off_archive_is_refused(tmp_path: Path) -> None:
    reviews(tmp_path / "Mugs.json.gz")
    data = (tmp_path / "Mugs.json.gz").read_bytes()
    (tmp_path / "Mugs.json.gz").write_bytes(data[:-12])
    refuses(tmp_path, "amazon", r"Mugs\.json\.gz cannot be read")


# MicroLens and sequences


def test_microlens_prefers_the_file_with_times_and_finds_covers(tmp_path: Path) -> None:
    (tmp_path / "M_pairs.tsv").write_text("1\t10 11 12\n")
    (tmp_path / "M_pairs.csv").write_text(
        "user,item,timestamp\n1,12,1000000000003\n1,11,1000000000002\n1,10,1000000000001\n"
    )
    (tmp_path / "M_covers").mkdir()
    (tmp_path / "M_covers" / "11.jpg").write_bytes(b"jpeg")
    dataset = prepare(tmp_path, "microlens")
    assert dataset.timestamps is not None
    assert dataset.timestamps.tolist() == [1000000000001, 1000000000002, 1000000000003]
    assert field(dataset, "11", "image") == "M_covers/11.jpg"
    assert dataset.manifest["reader_report"]["time_unit"] == "ms"


def test_two_sizes_of_microlens_in_one_folder_are_refused(tmp_path: Path) -> None:
    for size in ("50k", "100k"):
        (tmp_path / f"MicroLens-{size}_pairs.tsv").write_text("1\t1 2 3\n")
    refuses(tmp_path, "microlens", r"several files.*100k_pairs\.tsv, .*50k_pairs\.tsv")


def test_sequences_take_tabs_carriage_returns_and_users_without_items(tmp_path: Path) -> None:
    (tmp_path / "user_sequence.txt").write_bytes(b'u1 a "b  c\r\n\r\nu2\tb d a \r\nu3\r\n')
    dataset = prepare(tmp_path, "sequences")
    assert [dataset.catalogue.ids[i] for i in dataset.history_of("u1")] == ["a", '"b', "c"]
    assert [dataset.catalogue.ids[i] for i in dataset.history_of("u2")] == ["b", "d", "a"]
    assert dataset.manifest["reader_report"] == {"users_without_items": 1}
    assert dataset.catalogue.texts() == [None] * 5


def test_item_text_needs_its_header(tmp_path: Path) -> None:
    (tmp_path / "user_sequence.txt").write_text("u1 a b c\n")
    (tmp_path / "item_text.tsv").write_text("a\tmug\n")
    refuses(tmp_path, "sequences", r"item_text\.tsv has no column 'item_id'")


# RecBole


def test_recbole_types_columns_and_times_with_decimals(tmp_path: Path) -> None:
    (tmp_path / "x.inter").write_text(
        "uid:token\titem_id:token\tclick_time:float\n" + "".join(f"{u}\t{i}\t{t}.5\n" for u, i, t in LONG)
    )
    (tmp_path / "x.item").write_text(
        "item_id:token\tmovie_title:token_seq\tclass:token_seq\tprice:float\tsizes:float_seq\n"
        "1\tToy  Story\tComedy War\t1.5\t1 2.5\n2\t\t\t\t\n"
    )
    dataset = prepare(tmp_path, "recbole", columns={"user": "uid", "timestamp": "click_time"})
    assert dataset.timestamps is not None
    assert dataset.timestamps[0] == 10_500
    row = dataset.catalogue.frame.filter(pl.col("item_id") == "1").to_dicts()[0]
    assert row["title"] == "Toy  Story"
    assert (row["class"], row["price"], row["sizes"]) == (["Comedy", "War"], 1.5, [1.0, 2.5])
    assert field(dataset, "2", "title") is None


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("user_id\titem_id:token\n1\t2\n", {}, "'user_id' has no type"),
        ("user_id:token\tthing:token\n1\t2\n", {}, "no column 'item_id' for the item"),
        ("user_id:token\titem_id:token\n1\t2\n", {"columns": {"weight": "stars"}}, "no column 'stars'"),
        ("user_id:token\titem_id:token\n1\t2\n", {"columns": {"stars": "rating"}}, "there is no 'stars'"),
        ("user_id:token\titem_id:token\ttimestamp:float\n1\t2\t1.5\n1\t3\tx\n", {}, r"row 3: 'x' in column 'timestamp"),
        ("user_id:token\titem_id:token\ttimestamp:float\n1\t2\tinf\n", {}, r"row 2: 'inf' in column 'timestamp"),
    ],
)
def test_recbole_files_that_cannot_be_read(tmp_path: Path, text: str, options: dict[str, Any], words: str) -> None:
    (tmp_path / "x.inter").write_text(text)
    refuses(tmp_path, "recbole", words, **options)


# Any reader


@pytest.mark.parametrize("reader", ["movielens", "amazon", "microlens", "sequences", "hm"])
def test_an_option_that_a_reader_would_ignore_is_refused(tmp_path: Path, reader: str) -> None:
    refuses(ratings(tmp_path), reader, "takes no --columns", columns={"user": "uid"})


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    refuses(ratings(tmp_path), "movielens", "is not a folder", images=tmp_path / "none")
    (tmp_path / "empty").mkdir()
    refuses(ratings(tmp_path), "movielens", "holds no pictures", images=tmp_path / "empty")


def test_an_unknown_reader_gets_a_suggestion(tmp_path: Path) -> None:
    refuses(tmp_path, "movielense", "Did you mean 'movielens'")


# Ratings without anything else


@pytest.mark.parametrize("item_first", [False, True])
@pytest.mark.parametrize("ending", ["csv", "csv.gz"])
def test_amazon_ratings_without_a_header(tmp_path: Path, item_first: bool, ending: str) -> None:
    rows = [(f"A{user}UVWXYZ01234", f"B00000000{item}", time) for user, item, time in LONG]
    ids = [(item, user, time) if item_first else (user, item, time) for user, item, time in rows]
    text = "".join(f"{first},{second},4.5,{1_400_000_000 - time}\n" for first, second, time in ids)
    path = tmp_path / f"ratings_Mugs.{ending}"
    path.write_bytes(gzip.compress(text.encode()) if ending.endswith("gz") else text.encode())
    (tmp_path / "meta_Mugs.json").write_text(json.dumps({"asin": "B000000001", "title": "Mug"}))
    for source in (tmp_path, path):
        dataset = prepare(source, "amazon")
        assert dataset.user_ids.to_list() == ["AaUVWXYZ01234", "AbUVWXYZ01234"]
        assert [dataset.catalogue.ids[i] for i in dataset.history_of("AaUVWXYZ01234")] == [
            f"B00000000{item}" for item in (4, 3, 2, 1)
        ]
        assert dataset.timestamps is not None
        assert dataset.timestamps.max() == (1_400_000_000 - 10) * 1000
        assert dataset.weights is not None
        assert set(dataset.weights.tolist()) == {4.5}
        assert field(dataset, "B000000001", "title") == "Mug"
    assert list(dataset.manifest["source"]["files"]) == [f"ratings_Mugs.{ending}", "meta_Mugs.json"]


def test_amazon_ratings_of_2023_have_a_header_and_milliseconds(tmp_path: Path) -> None:
    rows = "".join(f"{user},B{item},5.0,{1_600_000_000_000 + time},x\n" for user, item, time in LONG)
    (tmp_path / "Mugs.csv").write_text(f"user_id,parent_asin,rating,timestamp,history\n{rows}")
    dataset = prepare(tmp_path, "amazon")
    assert dataset.timestamps is not None
    assert dataset.timestamps.min() == 1_600_000_000_010
    reviews(tmp_path / "Mugs.json")
    assert list(prepare(tmp_path, "amazon").manifest["source"]["files"]) == ["Mugs.json"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,B1,5.0,100\na,B2,x,100\n", r"Mugs\.csv, row 2: 'x' in column 'weight' is not a number"),
        ("a,B1,5.0,100\na,B2,5.0\n", r"Mugs\.csv, row 2: no value in column 'timestamp'"),
        ("user,item,stars\na,B2,5.0\n", r"holds no Amazon ratings \(its first row is user,item,stars\)"),
    ],
)
def test_amazon_ratings_that_cannot_be_read(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "Mugs.csv").write_text(text)
    refuses(tmp_path, "amazon", words)


def test_a_review_with_an_infinite_number_is_malformed(tmp_path: Path) -> None:
    bad = '{"reviewerID": "c", "asin": "B1", "overall": Infinity, "unixReviewTime": 3}'
    late = '{"reviewerID": "c", "asin": "B1", "overall": 5.0, "unixReviewTime": NaN}'
    dataset = prepare(reviews(tmp_path / "Mugs.json", bad, late), "amazon")
    assert dataset.manifest["reader_report"]["malformed_lines"] == 2


def test_movielens_times_may_have_decimals(tmp_path: Path) -> None:
    rows = "".join(f"{u},{i},4.5,{1_700_000_000 - t}.{'5' if i == 2 else '0'}\n" for u, i, t in LONG)
    (tmp_path / "ratings.csv").write_text(f"userId,movieId,rating,timestamp\n{rows}")
    dataset = prepare(tmp_path, "movielens")
    assert dataset.timestamps is not None
    assert dataset.timestamps[:4].tolist() == [
        1_699_999_960_000,
        1_699_999_970_000,
        1_699_999_980_500,
        1_699_999_990_000,
    ]
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,2,inf,100\n")
    refuses(tmp_path, "movielens", r"row 2: 'inf' in column 'rating' is not a finite number")
