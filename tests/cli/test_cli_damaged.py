"""Damaged and foreign run.json, manifest.json and Parquet files: one sentence that names the file, no traceback."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from cli_helpers import Shell

from palate.bundle.load import Bundle
from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.runs.run import Run
from palate.storage.files import read_json, write_json


def without(path: Path, *keys: str) -> None:
    """Take a (nested) key out of a JSON file."""
    whole = read_json(path)
    inner: Any = whole
    for key in keys[:-1]:
        inner = inner[key]
    del inner[keys[-1]]
    write_json(path, whole)


@pytest.fixture
def run(popular: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(popular, tmp_path / "run"))


@pytest.fixture
def data(shop: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shop, tmp_path / "data"))


@pytest.mark.parametrize("words", [["recommend", "--history", "i1"], ["info"], ["evaluate"]])
def test_a_foreign_run_json(palate: Shell, run: Path, words: list[str]) -> None:
    for content, wording in (
        ({"format": 1}, "lacks 'model'"),
        ([1], "is not a run"),
        ({"scripts": {}}, "is not a run"),
    ):
        write_json(run / "run.json", content)
        told = palate(words[0], run, *words[1:])
        assert told.code == 2
        assert wording in told.err
        assert "Traceback" not in told.err


@pytest.mark.parametrize(
    "keys",
    [
        ("model",),
        ("seed",),
        ("options",),
        ("environment",),
        ("dataset",),
        ("dataset", "path"),
        ("dataset", "image_root"),
    ],
)
def test_a_run_json_without_a_key(run: Path, keys: tuple[str, ...]) -> None:
    without(run / "run.json", *keys)
    with pytest.raises(PalateError, match=rf"run\.json is damaged: it lacks '{'.'.join(keys)}'"):
        Run.open(run)


def test_another_run_format(run: Path) -> None:
    write_json(run / "run.json", {**read_json(run / "run.json"), "format": 99})
    with pytest.raises(PalateError, match="has run format 99"):
        Run.open(run)


@pytest.mark.parametrize("command", ["recommend", "info"])
def test_a_cut_off_or_lost_catalogue(palate: Shell, run: Path, command: str) -> None:
    words = ["--history", "i1"] if command == "recommend" else []
    path = run / "catalogue.parquet"
    path.write_bytes(path.read_bytes()[:200])
    for _ in range(2):
        told = palate(command, run, *words)
        assert told.code == 2
        assert "catalogue.parquet is damaged" in told.err
        path.unlink(missing_ok=True)


@pytest.mark.parametrize("key", ["image_root", "fingerprint"])
def test_a_manifest_without_a_key(palate: Shell, data: Path, key: str) -> None:
    without(data / "manifest.json", key)
    told = palate("info", data)
    assert told.code == 2
    assert f"manifest.json lacks '{key}'" in told.err


@pytest.mark.parametrize("content", [{"name": "My app"}, [], "text"])
def test_a_foreign_manifest(data: Path, content: object) -> None:
    write_json(data / "manifest.json", content)
    with pytest.raises(PalateError, match="is not a dataset"):
        Dataset.load(data)


@pytest.mark.parametrize("name", ["interactions.parquet", "users.parquet", "items.parquet"])
def test_a_cut_off_or_foreign_table_of_a_dataset(data: Path, name: str) -> None:
    whole = (data / name).read_bytes()
    (data / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PalateError, match="is damaged"):
        Dataset.load(data)
    pl.DataFrame({"x": [1]}).write_parquet(data / name)
    with pytest.raises(PalateError, match=r"is damaged|lacks the column"):
        Dataset.load(data)


@pytest.mark.parametrize("name", ["users.parquet", "items.parquet"])
def test_tables_of_two_datasets(data: Path, name: str) -> None:
    pl.read_parquet(data / name).head(3).write_parquet(data / name)
    with pytest.raises(PalateError, match=r"damaged \(interactions of an? (user|item)"):
        Dataset.load(data)


def test_a_folder_that_is_not_there_is_named_with_the_one_that_is(shop: Path, neural: Path, tmp_path: Path) -> None:
    for load, folder, what in ((Dataset.load, shop, "a dataset"), (Run.open, neural, "a run")):
        with pytest.raises(PalateError, match=rf"{folder.name}x is not there\. Did you mean '{folder}'\?"):
            load(folder.with_name(f"{folder.name}x"))
        with pytest.raises(PalateError, match=f"is not {what}"):
            load(tmp_path)
    with pytest.raises(PalateError, match=r"nowhere is not there\. Make one with `palate bundle RUN --out DIR`"):
        Bundle.load(tmp_path / "nowhere")
