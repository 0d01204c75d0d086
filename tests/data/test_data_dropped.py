"""Items that filters left out: they are known as such, so that nobody is sent to another item."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from palate.data.catalogue import Catalogue
from palate.data.dataset import Dataset
from palate.data.dropped import dropped_of, why_dropped
from palate.data.folder import DROPPED, check_replaceable
from palate.data.frames import from_frames
from palate.data.prepare import prepare
from palate.data.spelling import did_you_mean
from palate.errors import PalateError

Run = Callable[..., tuple[int, str, str]]
MANY = ["0895792001", "0895792003", "0895792004"]


def shop(folder: Path) -> Path:
    """Eight users take three items; one of them takes a fourth, one a fifth with a low rating; a sixth is untouched."""
    rows = [(f"u{user}", item, 5, 10 * user + place) for user in range(8) for place, item in enumerate(MANY)]
    rows += [("u0", "0895792002", 5, 9), ("u1", "0895792005", 1, 18)]
    frame = pl.DataFrame(rows, schema=["user", "item", "rating", "timestamp"], orient="row")
    frame.write_csv(folder / "log.csv")
    items = [*MANY, "0895792002", "0895792005", "0895792006"]
    pl.DataFrame({"item_id": items, "title": [f"Shirt {item[-1]}" for item in items]}).write_csv(folder / "shop.csv")
    return folder / "log.csv"


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    made = prepare(shop(tmp_path), "table", catalogue=tmp_path / "shop.csv", min_rating=4, k_core=2)
    made.save(tmp_path / "data")
    return Dataset.load(tmp_path / "data")


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ("0895792002", "--k-core left it out"),
        ("0895792005", "--min-rating left it out"),
        ("0895792006", "`palate prepare --keep-unseen` keeps such items"),
    ],
)
def test_the_step_that_dropped_an_item_is_told(dataset: Dataset, item: str, words: str) -> None:
    sentence = did_you_mean(dataset.catalogue, item, "otherwise", dataset.dropped)
    assert words in sentence
    assert "Did you mean" not in sentence


def test_every_item_of_the_source_is_kept_or_dropped_once(dataset: Dataset) -> None:
    assert dataset.dropped is not None
    gone = dataset.dropped.collect()["item_id"].to_list()
    assert sorted([*gone, *dataset.catalogue.ids[1:]]) == [f"089579200{n}" for n in range(1, 7)]
    assert why_dropped(dataset.dropped, MANY[0]) is None
    assert why_dropped(None, MANY[0]) is None


def test_dropped_items_are_no_part_of_the_data(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "data" / DROPPED).unlink()
    assert Dataset.load(tmp_path / "data").fingerprint == dataset.fingerprint
    assert Dataset.load(tmp_path / "data").dropped is None


def test_a_dataset_with_dropped_items_may_be_copied_and_replaced(dataset: Dataset, tmp_path: Path) -> None:
    check_replaceable(tmp_path / "data")
    dataset.save(tmp_path / "data", replace=True)
    dataset.save(tmp_path / "copy")
    assert pl.read_parquet(tmp_path / "copy" / DROPPED).equals(pl.read_parquet(tmp_path / "data" / DROPPED))


def test_nothing_is_written_where_nothing_was_dropped(tmp_path: Path) -> None:
    prepare(shop(tmp_path), "table").save(tmp_path / "data")
    assert not (tmp_path / "data" / DROPPED).exists()


def test_recommend_and_neighbours_know_what_was_dropped(tmp_path: Path, palate: Run) -> None:
    options = ("--reader", "table", "--k-core", 2, "--out", tmp_path / "data")
    assert palate("prepare", shop(tmp_path), *options)[0] == 0
    assert palate("train", tmp_path / "data", "--model", "popularity", "--out", tmp_path / "run")[0] == 0
    commands = (
        ("recommend", tmp_path / "run", "--history", "0895792002"),
        ("neighbours", tmp_path / "data", "0895792002"),
    )
    for command in commands:
        code, _, error = palate(*command)
        assert code == 2
        assert "--k-core left it out when the dataset was made" in " ".join(error.split())
        assert "Did you mean" not in error
    assert palate("prepare", tmp_path / "log.csv", *options, "--max-users", 4, "--overwrite")[0] == 0
    _, _, error = palate(*commands[0])
    assert "left it out" not in error  # the dataset is not the one that the run was trained on


def test_a_dataset_of_another_fingerprint_says_nothing(dataset: Dataset, tmp_path: Path) -> None:
    assert dropped_of(tmp_path / "data", dataset.fingerprint) is not None
    for folder, fingerprint in ((tmp_path / "data", "0"), (tmp_path, dataset.fingerprint), (None, "0")):
        assert dropped_of(folder, fingerprint) is None
    (tmp_path / "data" / DROPPED).write_bytes(b"no parquet")
    assert why_dropped(dropped_of(tmp_path / "data", dataset.fingerprint), "x") is None


@pytest.mark.parametrize(
    ("item", "sentence"),
    [
        ("0895792002", "otherwise"),
        ("895792001", "Did you mean '0895792001' (Red shirt)?"),
        ("red shrit", "Did you mean '0895792001' (Red shirt)?"),
        ("mug-l2", "Did you mean 'mug-12'?"),
        ("9" * 5000, "otherwise"),
    ],
)
def test_a_number_is_no_misspelling_of_another(item: str, sentence: str) -> None:
    frame = pl.DataFrame(
        {"item_id": ["0895792001", "mug-12", "0895792003"], "title": ["Red shirt", None, None], "image": None},
        schema={"item_id": pl.String, "title": pl.String, "image": pl.String},
    )
    assert did_you_mean(Catalogue(frame), item, "otherwise") == sentence


def test_max_users_draws_from_those_that_the_core_keeps() -> None:
    """Sixty users with four interactions each, and sixty with one: forty of the sixty are asked for, and come."""
    rows = [(f"core{user}", f"i{(user + step) % 10}") for user in range(60) for step in range(4)]
    rows += [(f"thin{user}", f"i{user % 10}") for user in range(60)]
    frame = pl.DataFrame(rows, schema=["user", "item"], orient="row")
    dataset = from_frames(frame, max_users=40, k_core=4, min_history=2, seed=3)
    assert dataset.num_users == 40
    assert all(user.startswith("core") for user in dataset.user_ids)
    assert len(dataset) == 160
    assert [step["step"] for step in dataset.manifest["filters"]] == [
        "duplicates",
        "k-core",
        "min-history",
        "max-users",
    ]
    assert from_frames(frame, max_users=40, k_core=4, min_history=2, seed=4).fingerprint != dataset.fingerprint
    with pytest.raises(PalateError, match=r"no user 'thin0'.*Users were left out by --k-core, --max-users"):
        dataset.history_of("thin0")
