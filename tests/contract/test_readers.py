"""What every reader must do, each on a tiny source in its own format."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from palate.data.prepare import prepare
from palate.data.readers import READERS
from palate.errors import PalateError

# User -> items oldest first. The ids keep leading zeros and look like numbers where a format allows only those.
LOG = {"7": ["10", "11", "12", "13"], "3": ["12", "10", "14"], "5": ["14", "13", "12", "11", "10"]}
TITLES = {"10": "Red mug", "11": "Blue mug", "12": "Green, plain mug", "13": 'The "big" mug'}  # 14 has no row
ROWS = [
    (user, item, step, 1 + (int(item) + int(user)) % 5)
    for user, items in LOG.items()
    for step, item in enumerate(items)
]
START = 1_400_000_000
Source = tuple[Path, dict[str, object]]


def scattered() -> list[tuple[str, str, int, int]]:
    """The rows in no useful order, so that only their times tell which is older."""
    return [(user, item, START + 60 * step, rating) for user, item, step, rating in sorted(ROWS, key=lambda r: r[1:])]


def movielens_100k(folder: Path) -> Source:
    (folder / "u.data").write_text("".join(f"{u}\t{i}\t{r}\t{t}\n" for u, i, t, r in scattered()))
    flags = "|".join(["0"] * 19)
    (folder / "u.item").write_text(
        "".join(f"{i}|{t} (1995)|01-Jan-1995||http://x|{flags}\n" for i, t in TITLES.items()), encoding="latin-1"
    )
    return folder, {}


def movielens_1m(folder: Path) -> Source:
    (folder / "ratings.dat").write_text("".join(f"{u}::{i}::{r}::{t}\n" for u, i, t, r in scattered()))
    (folder / "movies.dat").write_text("".join(f"{i}::{t} (1995)::Drama\n" for i, t in TITLES.items()))
    return folder, {}


def movielens_csv(folder: Path) -> Source:
    pl.DataFrame(
        [(u, i, r, t) for u, i, t, r in scattered()], schema=["userId", "movieId", "rating", "timestamp"], orient="row"
    ).write_csv(folder / "ratings.csv")
    pl.DataFrame(
        [(i, f"{t} (1995)", "Drama|War") for i, t in TITLES.items()],
        schema=["movieId", "title", "genres"],
        orient="row",
    ).write_csv(folder / "movies.csv")
    return folder, {}


def amazon_2014(folder: Path) -> Source:
    with gzip.open(folder / "reviews_Mugs_5.json.gz", "wt") as file:
        for u, i, t, r in scattered():
            row = {"reviewerID": u, "asin": i, "overall": float(r), "unixReviewTime": t, "reviewText": "good"}
            file.write(json.dumps(row) + "\n")
    with gzip.open(folder / "meta_Mugs.json.gz", "wt") as file:
        file.writelines(f"{ {'asin': i, 'title': t, 'categories': [['Home', 'Mugs']]} }\n" for i, t in TITLES.items())
    return folder, {}


def amazon_2023(folder: Path) -> Source:
    with (folder / "Mugs.jsonl").open("w") as file:
        for u, i, t, r in scattered():
            row = {"user_id": u, "asin": f"{i}-red", "parent_asin": i, "rating": r, "timestamp": t * 1000, "title": "!"}
            file.write(json.dumps(row) + "\n")
    with (folder / "meta_Mugs.jsonl").open("w") as file:
        file.writelines(json.dumps({"parent_asin": i, "title": t}) + "\n" for i, t in TITLES.items())
    return folder, {}


def microlens_tsv(folder: Path) -> Source:
    (folder / "Mini_pairs.tsv").write_text("".join(f"{u}\t{' '.join(items)}\n" for u, items in LOG.items()))
    titles(folder / "Mini_titles.csv", header=True)
    return folder, {}


def microlens_csv(folder: Path) -> Source:
    rows = "".join(f"{u},{i},{t * 1000}\n" for u, i, t, _ in scattered())
    (folder / "Mini_pairs.csv").write_text(f"user,item,timestamp\n{rows}")
    titles(folder / "Mini_titles.csv", header=False)
    return folder, {}


def titles(path: Path, header: bool) -> None:
    pl.DataFrame(list(TITLES.items()), schema=["item", "title"], orient="row").write_csv(path, include_header=header)


def recbole(folder: Path) -> Source:
    rows = "".join(f"{u}\t{i}\t{r}\t{t}.0\n" for u, i, t, r in scattered())
    (folder / "mini.inter").write_text(f"user_id:token\titem_id:token\trating:float\ttimestamp:float\n{rows}")
    rows = "".join(f"{i}\t{t}\tHome Mugs\t9.5\n" for i, t in TITLES.items())
    (folder / "mini.item").write_text(f"item_id:token\ttitle:token_seq\tcategories:token_seq\tprice:float\n{rows}")
    return folder, {}


def sequences(folder: Path) -> Source:
    (folder / "user_sequence.txt").write_text("".join(f"{u} {' '.join(items)}\n" for u, items in LOG.items()))
    (folder / "item_text.tsv").write_text("item_id\ttext\n" + "".join(f"{i}\t{t}\n" for i, t in TITLES.items()))
    return folder, {}


def table_csv(folder: Path) -> Source:
    rows = "".join(f"{u};{i};{t};{r}\n" for u, i, t, r in scattered())
    (folder / "log.csv").write_text(f"uid;sku;ts;stars\n{rows}")
    titles(folder / "mugs.csv", header=True)
    columns = {"user": "uid", "item": "sku", "timestamp": "ts", "weight": "stars"}
    items = {"item_id": "item", "title": "title"}
    return folder / "log.csv", {"columns": columns, "catalogue": folder / "mugs.csv", "item_columns": items}


def table_parquet(folder: Path) -> Source:
    frame = pl.DataFrame(
        [(int(u), i, t, r) for u, i, t, r in scattered()], schema=["user", "item", "timestamp", "weight"], orient="row"
    ).with_columns(pl.from_epoch("timestamp"))
    (folder / "log").mkdir()
    frame[:5].write_parquet(folder / "log" / "part-0.parquet")
    frame[5:].write_parquet(folder / "log" / "part-1.parquet")
    catalogue = pl.DataFrame({"item_id": [int(i) for i in TITLES], "title": list(TITLES.values())})
    catalogue.write_parquet(folder / "mugs.parquet")
    return folder / "log", {"catalogue": folder / "mugs.parquet"}


def interactions(folder: Path) -> Source:
    rows = "".join(f"{u}\t{i}\t{t}\t{r}\n" for u, i, t, r in scattered())
    (folder / "interactions.tsv").write_text(f"user\titem\ttimestamp\trating\n{rows}")
    (folder / "item_text.tsv").write_text("item_id\ttitle\n" + "".join(f"{i}\t{t}\n" for i, t in TITLES.items()))
    return folder, {}


def hm(folder: Path) -> Source:
    midnight = datetime.fromtimestamp(START, UTC).date()
    days = "".join(f"{midnight + timedelta(days=(t - START) // 60)},{u},{i}\n" for u, i, t, _ in scattered())
    (folder / "transactions_train.csv").write_text(f"t_dat,customer_id,article_id\n{days}")
    pl.DataFrame(list(TITLES.items()), schema=["article_id", "prod_name"], orient="row").write_csv(
        folder / "articles.csv"
    )
    return folder, {}


SOURCES: dict[str, tuple[Callable[[Path], Source], ...]] = {
    "movielens": (movielens_100k, movielens_1m, movielens_csv),
    "amazon": (amazon_2014, amazon_2023),
    "microlens": (microlens_tsv, microlens_csv),
    "recbole": (recbole,),
    "sequences": (sequences,),
    "table": (table_csv, table_parquet),
    "interactions": (interactions,),
    "hm": (hm,),
}
CASES = [pytest.param(name, make, id=make.__name__) for name, makers in SOURCES.items() for make in makers]
UNTIMED = (sequences, microlens_tsv)
DAYS = (hm,)  # times are dates


def test_every_reader_has_a_source_here() -> None:
    assert set(SOURCES) == set(READERS._builtin)


@pytest.mark.parametrize(("reader", "make"), CASES)
def test_reads_all_interactions_in_time_order_with_string_ids(
    reader: str, make: Callable[[Path], Source], tmp_path: Path
) -> None:
    source, options = make(tmp_path)
    dataset = prepare(source, reader, **options)
    assert len(dataset) == len(ROWS)
    assert dataset.user_ids.dtype == pl.String
    assert dataset.catalogue.frame.schema["item_id"] == pl.String
    found = {user: [dataset.catalogue.ids[i] for i in dataset.history_of(user)] for user in dataset.user_ids}
    assert found == LOG
    if make in UNTIMED:
        assert dataset.timestamps is None
        assert dataset.weights is None
    else:
        assert dataset.timestamps is not None
        first = dataset.timestamps[dataset.offsets[:-1]]
        start = START // 86_400 * 86_400 if make in DAYS else START
        assert set(first.tolist()) == {start * 1000}  # Unix milliseconds, whatever the source's unit
    if dataset.weights is not None:
        ratings = {(u, i): r for u, i, _, r in ROWS}
        for row, weight in enumerate(dataset.weights):
            key = dataset.user_ids[int(dataset.rows_user[row])], dataset.catalogue.ids[dataset.items[row]]
            assert weight == ratings[key]


@pytest.mark.parametrize(("reader", "make"), CASES)
def test_titles_join_by_id_and_an_unknown_item_has_none(
    reader: str, make: Callable[[Path], Source], tmp_path: Path
) -> None:
    source, options = make(tmp_path)
    frame = prepare(source, reader, **options).catalogue.frame
    assert dict(zip(frame["item_id"], frame["title"], strict=True)) == {**TITLES, "14": None}


@pytest.mark.parametrize(("reader", "make"), CASES)
def test_pictures_are_found_by_item_id(reader: str, make: Callable[[Path], Source], tmp_path: Path) -> None:
    source, options = make(tmp_path)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "12.jpg").write_bytes(b"a picture")
    (pictures / "99.jpg").write_bytes(b"of an item nobody knows")
    catalogue = prepare(source, reader, **options, images=pictures).catalogue
    assert [i for i in range(1, len(catalogue) + 1) if catalogue.image_path(i)] == [catalogue.index["12"]]
    path = catalogue.image_path(catalogue.index["12"])
    assert path is not None
    assert path.read_bytes() == b"a picture"


@pytest.mark.parametrize(("reader", "make"), CASES)
def test_reads_the_same_twice(reader: str, make: Callable[[Path], Source], tmp_path: Path) -> None:
    source, options = make(tmp_path)
    first, second = (prepare(source, reader, **options) for _ in range(2))
    assert first.fingerprint == second.fingerprint
    assert first.manifest == second.manifest
    assert first.manifest["source"]["files"]
    assert str(tmp_path.parent) not in json.dumps(first.manifest)


@pytest.mark.parametrize("reader", list(SOURCES))
def test_refuses_an_empty_folder(reader: str, tmp_path: Path) -> None:
    with pytest.raises(PalateError, match=str(tmp_path)):
        prepare(tmp_path, reader)


@pytest.mark.parametrize("reader", list(SOURCES))
def test_refuses_a_source_that_is_not_there(reader: str, tmp_path: Path) -> None:
    with pytest.raises(PalateError, match="does not exist"):
        prepare(tmp_path / "nowhere", reader)


@pytest.mark.parametrize(("reader", "make"), CASES)
def test_an_empty_log_is_refused_by_name(reader: str, make: Callable[[Path], Source], tmp_path: Path) -> None:
    source, options = make(tmp_path)
    log = max((p for p in tmp_path.rglob("*") if p.is_file()), key=lambda p: p.name in _LOGS)
    log.write_bytes(gzip.compress(b"") if log.suffix == ".gz" else b"")
    with pytest.raises(PalateError, match=log.name):
        prepare(source, reader, **options)


_LOGS = [
    *("u.data", "ratings.dat", "ratings.csv", "reviews_Mugs_5.json.gz", "Mugs.jsonl", "Mini_pairs.tsv"),
    *("Mini_pairs.csv", "mini.inter", "user_sequence.txt", "log.csv", "part-0.parquet"),
    *("interactions.tsv", "transactions_train.csv"),
]
