"""A path is one file, whatever characters its folders have: never a pattern, a home folder or an address."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from palate.data.catalogue import Catalogue
from palate.data.dataset import Dataset
from palate.data.prepare import prepare
from palate.storage.tables import read_csv, read_parquet, scan_csv, scan_ndjson, scan_parquet

NAMES = ["a[1]", "a*", "a?", "{a1,b}", "~", "~root", "file:", "a%31", "k=1"]
READ: dict[str, Callable[..., Any]] = {
    "csv": read_csv,
    "parquet": read_parquet,
    "CSV": scan_csv,
    "PARQUET": scan_parquet,
    "ndjson": scan_ndjson,
}


def write(path: Path, value: int) -> Path:
    """A file with one cell, in the format that its name ends with."""
    path.parent.mkdir(parents=True, exist_ok=True)
    getattr(pl.DataFrame({"x": [value]}), f"write_{path.suffix[1:].lower()}")(path.absolute())
    return path


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", READ)
def test_a_path_is_never_a_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a1" / f"log.{kind}", 2)
    path = write(Path(name) / f"log.{kind}", 1)
    for given in (path, str(path), path.absolute()):
        assert READ[kind](given).lazy().collect().rows() == [(1,)]


def write_log(folder: Path, first: str, ending: str) -> Path:
    """A log whose users are named ``first-0`` and ``first-1``."""
    folder.mkdir(parents=True, exist_ok=True)
    frame = pl.DataFrame(
        {"user": [f"{first}-{row // 4}" for row in range(8)], "item": list("abcd" * 2), "timestamp": list(range(8))}
    )
    path = folder / f"log.{ending}"
    (frame.write_parquet if ending == "parquet" else frame.write_csv)(path)
    return path


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("name", ["a[1]", "a*", "a?"])
def test_a_log_is_read_from_the_folder_that_was_named(tmp_path: Path, name: str, ending: str) -> None:
    write_log(tmp_path / "a1", "other", ending)
    path = write_log(tmp_path / name, "right", ending)
    items = path.with_name(f"things.{ending}")
    frame = pl.DataFrame({"item_id": list("abcd"), "title": ["A", "B", "C", "D"]})
    (frame.write_parquet if ending == "parquet" else frame.write_csv)(items)
    dataset = prepare(path, "table", catalogue=items)
    assert dataset.user_ids.to_list() == ["right-0", "right-1"]
    assert dataset.catalogue.frame["title"].to_list() == ["A", "B", "C", "D"]


@pytest.mark.parametrize("name", ["v[2]", "~", "~root", "file:", "v?"])
def test_a_dataset_comes_back_from_where_it_was_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    prepare(write_log(tmp_path / "raw2", "other", "csv"), "table").save(Path("v2"))
    prepare(write_log(tmp_path / "raw", "right", "csv"), "table").save(Path(name))
    again = Dataset.load(name)
    assert again.user_ids.to_list() == ["right-0", "right-1"]
    assert Catalogue.load(Path(name) / "items.parquet").ids[1:] == list("abcd")
    assert not (tmp_path / "home").exists()
