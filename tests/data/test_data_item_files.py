"""Item files beside a log, `interactions.tsv` with likes and dislikes, and H&M's layout."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from palate.data.dataset import Dataset
from palate.data.prepare import prepare
from palate.errors import PalateError


def refuses(source: Path, reader: str, words: str, **options: Any) -> None:
    with pytest.raises(PalateError, match=words):
        prepare(source, reader, **options)


def rows(dataset: Dataset) -> dict[str, dict[str, Any]]:
    return {row["item_id"]: row for row in dataset.catalogue.frame.to_dicts()}


def history(dataset: Dataset, user: str) -> list[str]:
    return [dataset.catalogue.ids[item] for item in dataset.history_of(user)]


# item_meta.tsv and item_text.tsv


@pytest.fixture
def sequences(tmp_path: Path) -> Path:
    (tmp_path / "user_sequence.txt").write_text("u1 a b c\nu2 c d a\n")
    return tmp_path


def write(path: Path, *lines: str) -> None:
    path.write_text("\n".join(lines) + "\n")


def test_meta_alone_gives_titles_and_fields(sequences: Path) -> None:
    write(
        sequences / "item_meta.tsv",
        "item_id\ttitle\tbrand\tcategories\tprice\tcode",
        'a\tRed "mug"\tAcme\tHome > Kitchen > Mugs\t9.5\t007',
        "b\t  \t\tHome\t11\t12",
    )
    dataset = prepare(sequences, "sequences")
    found = rows(dataset)
    assert found["a"] == {
        "item_id": "a",
        "title": 'Red "mug"',
        "image": None,
        "brand": "Acme",
        "categories": "Home > Kitchen > Mugs",
        "price": 9.5,
        "code": "007",
    }
    assert (found["b"]["title"], found["b"]["brand"], found["b"]["price"]) == (None, None, 11.0)
    assert found["c"]["categories"] is None
    assert dataset.catalogue.texts()[0] == 'Red "mug". Acme. Home > Kitchen > Mugs. 007'
    assert sorted(dataset.manifest["source"]["files"]) == ["item_meta.tsv", "user_sequence.txt"]


def test_titles_come_from_meta_and_else_from_text(sequences: Path) -> None:
    write(sequences / "item_meta.tsv", "item_id\ttitle\tbrand", "a\tFrom meta\tAcme", "b\t\tBolt", "d\t\t")
    write(
        sequences / "item_text.tsv",
        "item_id\ttext\tcolour",
        "a\tFrom text\tred",
        "b\tFrom text\t",
        "c\tOnly text\tblue",
    )
    found = rows(prepare(sequences, "sequences"))
    assert [found[item]["title"] for item in "abcd"] == ["From meta", "From text", "Only text", None]
    assert [found[item]["brand"] for item in "abcd"] == ["Acme", "Bolt", None, None]
    assert [found[item]["colour"] for item in "abcd"] == ["red", None, "blue", None]


def test_meta_without_titles_and_an_item_that_is_there_twice(sequences: Path) -> None:
    write(sequences / "item_meta.tsv", "item_id\tbrand", "a\tAcme", "a\tAgain", "b\tBolt")
    write(sequences / "item_text.tsv", "item_id\ttext", "a\tMug", "a\tMug again")
    dataset = prepare(sequences, "sequences")
    assert (rows(dataset)["a"]["title"], rows(dataset)["a"]["brand"]) == ("Mug", "Acme")
    assert dataset.manifest["reader_report"]["catalogue_duplicates"] == 1


@pytest.mark.parametrize(
    ("name", "lines", "words"),
    [
        ("item_meta.tsv", ["asin\ttitle", "a\tMug"], r"item_meta\.tsv has no column 'item_id'.*it has: asin, title"),
        ("item_text.tsv", ["item_id\twords", "a\tMug"], r"item_text\.tsv has no column 'text'.*it has: item_id, words"),
        ("item_meta.tsv", ["item_id\ttitle", "a\tMug", "b\tMug\tmore"], r"item_meta\.tsv, row 3: 3 cells, not 2"),
    ],
)
def test_item_files_that_cannot_be_read(sequences: Path, name: str, lines: list[str], words: str) -> None:
    write(sequences / name, *lines)
    refuses(sequences, "sequences", words)


# interactions


FILMS = (
    "item_id\ttitle\tgenres\tdirector\tcast\tplot",
    "1\tToy Story (1995)\tAnimation, Children's, Comedy\tJohn Lasseter\tTom Hanks, Tim Allen\tA toy.",
    "2\tJumanji (1995)\tAdventure\t\t\t",
)


def log(folder: Path, *lines: str, header: str = "user\titem\ttimestamp\tge3") -> Path:
    write(folder / "interactions.tsv", header, *lines)
    return folder


def test_films_with_likes_dislikes_and_posters(tmp_path: Path) -> None:
    seen = [f"{user}\t{item}\t{978300000 + 10 * item}\t1" for user in "abc" for item in range(1, 6)]
    seen[1] = "a\t2\t978300000\t0"  # disliked before what trains, so training may know it
    seen[9] = "b\t5\t978300099\t0"  # disliked later
    write(log(tmp_path, *seen) / "item_text.tsv", *FILMS)
    (tmp_path / "posters").mkdir()
    (tmp_path / "posters" / "1.jpg").write_bytes(b"jpeg")
    dataset = prepare(tmp_path, "interactions", min_rating=1, disliked_at_most=0)
    assert (history(dataset, "a"), history(dataset, "b")) == (["1", "3", "4", "5"], ["1", "2", "3", "4"])
    assert dataset.timestamps is not None
    assert dataset.timestamps[0] == 978300010000
    assert dataset.dislikes is not None
    assert [[dataset.catalogue.ids[item] for item in row] for row in dataset.dislikes] == [["2"], [], []]
    found = rows(dataset)
    assert found["1"] == {
        "item_id": "1",
        "title": "Toy Story",
        "image": "posters/1.jpg",
        "year": 1995,
        "genres": ["Animation", "Children's", "Comedy"],
        "director": ["John Lasseter"],
        "cast": ["Tom Hanks", "Tim Allen"],
        "plot": "A toy.",
    }
    assert (found["2"]["director"], found["2"]["plot"], found["2"]["image"]) == (None, None, None)
    assert found["3"]["genres"] is None


def test_a_rating_comes_before_ge3_and_other_columns_are_named(tmp_path: Path) -> None:
    log(
        tmp_path,
        "a\t1\t4.5\t1\t2024-03-01",
        "a\t2\t2\t0\t2024-03-02",
        "a\t3\t1\t0\t2024-03-04",
        header="uid\titem\trating\tge3\twhen",
    )
    dataset = prepare(tmp_path, "interactions", columns={"user": "uid", "timestamp": "when"})
    assert dataset.weights is not None
    assert dataset.weights.tolist() == [4.5, 2.0, 1.0]
    assert dataset.timestamps is not None
    assert dataset.timestamps[1] - dataset.timestamps[0] == 86_400_000


def test_interactions_as_csv_without_times_or_catalogue(tmp_path: Path) -> None:
    write(tmp_path / "interactions.csv", "user,item", 'a,"1,5"', "a,2", "a,3")
    dataset = prepare(tmp_path, "interactions")
    assert history(dataset, "a") == ["1,5", "2", "3"]
    assert dataset.weights is None


@pytest.mark.parametrize(
    ("lines", "header", "words"),
    [
        (["a\t1\t5\t1"], "user\tfilm\ttimestamp\tge3", r"interactions\.tsv has no column 'item'"),
        (["a\t1\t5\t1", "a\t2\tsoon\t1"], None, r"interactions\.tsv, row 3: 'soon' in column 'timestamp'"),
        (["a\t1\t5\t1", "", "a\t2\t6\tyes"], None, r"interactions\.tsv, row 4: 'yes' in column 'ge3'"),
        (["a\t1\t5\t1", "a\t\t6\t1"], None, r"interactions\.tsv, row 3: no value in column 'item'"),
        (["a\t1\t5\t1\tmore"], None, r"interactions\.tsv, row 2: 5 cells, not 4"),
    ],
)
def test_interactions_that_cannot_be_read(tmp_path: Path, lines: list[str], header: str | None, words: str) -> None:
    refuses(log(tmp_path, *lines, header=header or "user\titem\ttimestamp\tge3"), "interactions", words)


def test_a_folder_without_interactions(tmp_path: Path) -> None:
    refuses(tmp_path, "interactions", "has no interactions.tsv or interactions.csv")


# H&M


ARTICLES = (
    "article_id,product_code,prod_name,product_type_no,product_type_name,colour_group_code,colour_group_name,detail_desc",
    '0111565001,0111565,20 den Stockings,304,Underwear Tights,09,Black,"Semi shiny, with a ""wide"" trim."',
    "0111565003,0111565,20 den Stockings,304,Underwear Tights,10,White,",
    "0900000001,0900000,,1,Cap,09,Black,",
)


def shop(folder: Path, *lines: str, name: str = "transactions_train.csv") -> Path:
    header = "t_dat,customer_id,article_id,price,sales_channel_id"
    (folder / name).write_text("\r\n".join([header, *lines]) + "\r\n")
    return folder


BOUGHT = (
    "2020-09-20,c1,0111565003,0.01,2",
    "2020-09-20,c1,0111565001,0.01,2",
    "2020-09-16,c1,0900000001,0.02,1",
    "2020-09-22,c1,0999999999,0.02,1",
)


def test_articles_dates_and_pictures_in_folders(tmp_path: Path) -> None:
    (shop(tmp_path, *BOUGHT) / "articles.csv").write_text("\r\n".join(ARTICLES) + "\r\n")
    for name in ("011/0111565001.jpg", "090/0900000001.jpg", "thumbs/0111565003.jpg", "0111565003.png"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_bytes(b"jpeg")
    dataset = prepare(tmp_path, "hm")
    # By day; within a day as in the file.
    assert history(dataset, "c1") == ["0900000001", "0111565003", "0111565001", "0999999999"]
    assert dataset.timestamps is not None
    assert dataset.timestamps[0] == 1_600_214_400_000  # 2020-09-16, midnight UTC
    assert dataset.weights is None
    found = rows(dataset)
    assert found["0111565001"] == {
        "item_id": "0111565001",
        "title": "20 den Stockings",
        "image": "images/011/0111565001.jpg",
        "product_type_name": "Underwear Tights",
        "colour_group_name": "Black",
        "detail_desc": 'Semi shiny, with a "wide" trim.',
        "product_code": 111565,
    }
    assert found["0111565003"]["image"] == "images/0111565003.png"
    assert (found["0111565003"]["detail_desc"], found["0900000001"]["title"]) == (None, None)
    assert found["0999999999"]["product_type_name"] is None  # sold, but not in articles.csv
    assert (
        dataset.catalogue.texts()[dataset.catalogue.index["0111565003"] - 1]
        == "20 den Stockings. Underwear Tights. White"
    )
    elsewhere = prepare(tmp_path, "hm", images=tmp_path / "images")
    assert rows(elsewhere)["0900000001"]["image"] == "090/0900000001.jpg"


def test_a_log_without_articles_and_pictures(tmp_path: Path) -> None:
    dataset = prepare(shop(tmp_path, *BOUGHT, name="transactions.csv"), "hm")
    assert dataset.num_items == 4
    assert dataset.catalogue.fields == []
    assert dataset.catalogue.frame["image"].null_count() == 4
    shop(tmp_path, *BOUGHT)
    refuses(tmp_path, "hm", r"several files .*transactions\.csv, transactions_train\.csv")
    assert len(prepare(tmp_path / "transactions.csv", "hm")) == 4


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "21.09.2020,c1,0111565001,0.1,2",
            r"transactions_train\.csv, row 6: '21\.09\.2020' in column 't_dat' is not a date",
        ),
        ("2020-13-01,c1,0111565001,0.1,2", r"row 6: '2020-13-01' in column 't_dat' is not a date"),
        (",c1,0111565001,0.1,2", r"row 6: no value in column 't_dat'"),
        ("2020-09-21,c1,,0.1,2", r"row 6: no value in column 'article_id'"),
        ("2020-09-21,c1,0111565001,0.1,2,3", r"row 6: 6 cells, not 5"),
    ],
)
def test_a_broken_purchase_is_named_by_file_and_row(tmp_path: Path, line: str, words: str) -> None:
    refuses(shop(tmp_path, *BOUGHT, line), "hm", words)


def test_columns_that_are_missing_are_named(tmp_path: Path) -> None:
    refuses(tmp_path, "hm", "has no transactions_train.csv or transactions.csv")
    (tmp_path / "transactions.csv").write_text("date,customer_id,article_id\n2020-09-21,c1,0111565001\n")
    refuses(tmp_path, "hm", r"transactions\.csv has no column 't_dat'")
    (tmp_path / "transactions.csv").unlink()
    (shop(tmp_path, *BOUGHT) / "articles.csv").write_text("article_id,name\n0111565001,Stockings\n")
    refuses(tmp_path, "hm", r"articles\.csv has no column 'prod_name'")


# Real files


@pytest.mark.real
def test_a_week_of_hm(real_data: Callable[[str], Path]) -> None:
    source = real_data("hm-week")
    dataset = prepare(source, "hm", k_core=5)
    assert dataset.manifest["read"] == {"users": 27_900, "items": 11_091, "interactions": 143_369}
    assert (dataset.num_users, dataset.num_items, len(dataset)) == (8_925, 3_186, 64_804)
    assert dataset.catalogue.frame["image"].null_count() == 0
    assert all(dataset.catalogue.image_path(item).is_file() for item in (1, dataset.num_items))  # type: ignore[union-attr]
    with (source / "articles.csv").open(newline="", encoding="utf-8") as file:
        articles = {row["article_id"]: row for row in csv.DictReader(file)}
    for row in dataset.catalogue.frame.to_dicts():
        assert row["title"] == articles[row["item_id"]]["prod_name"].strip()
        assert row["detail_desc"] == (articles[row["item_id"]]["detail_desc"].strip() or None)


@pytest.mark.real
def test_movielens_1m_with_posters_and_dislikes(real_data: Callable[[str], Path]) -> None:
    dataset = prepare(real_data("ml-1m"), "interactions", min_rating=1, disliked_at_most=0, ties="seed")
    assert dataset.manifest["read"] == {"users": 6_040, "items": 3_416, "interactions": 999_611}
    assert (dataset.num_users, dataset.num_items, len(dataset)) == (6_038, 3_307, 835_789)
    assert dataset.dislikes is not None
    assert len(dataset.dislikes.values) == 156_436
    frame = dataset.catalogue.frame
    assert frame["year"].null_count() == 0
    assert not frame["title"].str.contains(r"\(\d{4}\)").any()
    assert frame.schema["genres"] == pl.List(pl.String)
    assert len(frame) - frame["image"].null_count() == 3_227


@pytest.mark.real
@pytest.mark.parametrize(("name", "titles", "brands"), [("beauty", 12_094, 10_003), ("toys", 11_865, 0)])
def test_amazon_has_titles_brands_and_categories(
    real_data: Callable[[str], Path], name: str, titles: int, brands: int
) -> None:
    dataset = prepare(real_data(f"amazon-2014-{name}"), "sequences", k_core=5)
    frame = dataset.catalogue.frame
    assert frame.columns == ["item_id", "title", "image", "brand", "categories"]
    assert len(frame) - frame["title"].null_count() == titles
    assert len(frame) - frame["brand"].null_count() == brands
    assert frame["categories"].null_count() == 0
