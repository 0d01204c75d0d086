"""Catalogues and pictures that belong to other items are noticed, by `prepare` and by the doctor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from palate.data.dataset import Dataset
from palate.data.doctor import Level, examine

ITEMS = ["001", "002", "003", "004", "005"]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    rows = "".join(f"u{user},{item},{1_600_000_000 + step}\n" for user in range(6) for step, item in enumerate(ITEMS))
    (tmp_path / "log.csv").write_text(f"user,item,timestamp\n{rows}")
    return tmp_path


def catalogue(files: Path, rows: str) -> tuple[object, ...]:
    (files / "items.csv").write_text(f"item_id,title\n{rows}")
    return "--catalogue", files / "items.csv"


def pictures(files: Path, names: list[str]) -> tuple[object, ...]:
    (files / "shots").mkdir()
    for number, name in enumerate(names):
        pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(files / "shots" / name)
    return "--images", files / "shots"


Palate = Callable[..., tuple[int, str, str]]


def prepared(palate: Palate, files: Path, *options: object) -> tuple[str, Dataset]:
    code, _, errors = palate("prepare", files / "log.csv", "--reader", "table", "--out", files / "data", *options)
    assert code == 0, errors
    return errors, Dataset.load(files / "data")


def test_a_catalogue_of_other_items(palate: Palate, files: Path) -> None:
    errors, data = prepared(palate, files, *catalogue(files, "1,Cup\n2,Mug\n3,Pot\n"))
    assert "Warning: No id of the log matches any of the catalogue's 3 rows" in errors
    finding = examine(data)["undescribed-items"]
    assert (finding.level, finding.count, finding.share) == (Level.WARNING, 5, 1.0)
    assert finding.examples == ["log: 001, 002, 003, 004, 005", "catalogue: 1, 2, 3"]
    assert examine(data)["missing-text"].level is Level.WARNING
    assert palate("doctor", files / "data", "--strict")[0] == 1


def test_all_missing_is_noticed_among_unseen_items_and_pictures_too(palate: Palate, files: Path) -> None:
    other = (*catalogue(files, "1,Cup\n2,Mug\n"), *pictures(files, ["001.png"]), "--keep-unseen")
    errors, data = prepared(palate, files, *other)
    assert "No id of the log matches" in errors
    assert examine(data)["undescribed-items"].share == 1.0


def test_some_rows_are_missing(palate: Palate, files: Path) -> None:
    errors, data = prepared(palate, files, *catalogue(files, "001,Cup\n002,Mug\n003,Pot\n004,Jar\n"))
    assert "Warning: 1 item (20%; 20% of interactions) has an id that matches no catalogue row" in errors
    finding = examine(data)["undescribed-items"]
    assert (finding.level, finding.count, finding.examples) == (Level.WARNING, 1, ["005"])


def test_an_empty_row_is_a_row(palate: Palate, files: Path) -> None:
    errors, data = prepared(palate, files, *catalogue(files, "001,Cup\n002,Mug\n003,\n004,Jar\n005,Pan\n"))
    assert "Warning" not in errors
    assert examine(data)["undescribed-items"].level is Level.OK


def test_without_a_catalogue_nothing_is_expected(palate: Palate, files: Path) -> None:
    errors, data = prepared(palate, files)
    assert "Warning" not in errors
    report = examine(data)
    assert [report[name].level for name in ("undescribed-items", "missing-text", "missing-picture")] == [Level.NOTE] * 3


def test_pictures_of_other_items(palate: Palate, files: Path) -> None:
    errors, data = prepared(palate, files, *pictures(files, ["1.png", "2.png"]))
    assert "Warning: No item has a picture: none of 2 is named after an item (ITEM_ID.jpg)." in errors
    assert examine(data)["missing-picture"].level is Level.WARNING


def test_pictures_in_another_folder(palate: Palate, files: Path) -> None:
    images = pictures(files, ["1.png"])
    (files / "items.csv").write_text("item_id,image\n" + "".join(f"{item},red/{item}.png\n" for item in ITEMS))
    errors, data = prepared(palate, files, "--catalogue", files / "items.csv", *images)
    assert "Warning: None of the pictures that were looked for is in " in errors
    finding = examine(data)["missing-picture"]
    assert (finding.level, finding.count, finding.examples[0]) == (Level.WARNING, 5, "red/001.png")


def test_columns_left_out_are_told(palate: Palate, files: Path) -> None:
    import polars as pl

    pl.DataFrame({"item_id": ITEMS, "title": ITEMS, "blob": [b"\x00"] * 5}).write_parquet(files / "items.parquet")
    _, data = prepared(palate, files, "--catalogue", files / "items.parquet")
    assert "blob (Binary)" in next(one.message for one in examine(data).findings if one.check == "left-out")
