"""Weights and features that are NaN or infinite are refused on loading, and the tensor is named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file

from palate.bundle import Bundle
from palate.bundle.manifest import NAME, write_manifest
from palate.data.dataset import Dataset, Part
from palate.errors import PalateError
from palate.features.lexical_store import LexicalStore
from palate.features.store import FeatureStore
from palate.rankers.registry import load_recommender
from palate.runs.run import Run
from palate.storage.files import read_json, write_json
from palate.storage.tensors import is_finite

Palate = Callable[..., tuple[int, str, str]]
NUMBERS = [float("nan"), float("inf"), float("-inf")]


def spoil(path: Path, name: str, number: float) -> None:
    """Put a number in the last place of a tensor."""
    tensors = {key: one.clone() for key, one in load_file(path).items()}
    tensors[name].view(-1)[-1] = number
    save_file(tensors, path)


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize(
    ("model", "file", "name"),
    [
        ("text_run", "weights.safetensors", "blocks.0.norm1.weight"),
        ("text_run", "items.safetensors", "items"),
        ("text_run", "items.safetensors", "popularity"),
        ("popular_run", "model.safetensors", "counts"),
    ],
)
def test_a_run(
    palate: Palate, request: pytest.FixtureRequest, tmp_path: Path, model: str, file: str, name: str, number: float
) -> None:  # fmt: skip
    run = Path(shutil.copytree(request.getfixturevalue(model).folder, tmp_path / "run"))
    if name not in load_file(run / "model" / file):
        name = next(key for key, one in load_file(run / "model" / file).items() if one.is_floating_point())
    spoil(run / "model" / file, name, number)
    with pytest.raises(PalateError, match=f"the tensor '{name}' holds NaN or infinity"):
        load_recommender(Run.open(run))
    code, _, err = palate("recommend", run, "--history", "space-1", "--json")
    assert code == 2
    assert f"{file}: the tensor '{name}' holds NaN or infinity" in err


@pytest.mark.parametrize(
    ("file", "name"), [("model/items.safetensors", "items"), ("features/text.safetensors", "vectors")]
)
def test_a_bundle_under_right_hashes(text_bundle: Path, tmp_path: Path, file: str, name: str) -> None:
    from palate.serve.vectors import ItemVectors

    bundle = Path(shutil.copytree(text_bundle, tmp_path / "bundle"))
    spoil(bundle / file, name, float("nan"))
    write_manifest(bundle, read_json(text_bundle / NAME))
    with pytest.raises(PalateError, match=f"{file}: the tensor '{name}' holds NaN or infinity"):
        ItemVectors(Bundle.load(bundle), None)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_feature_store(films: Path, tmp_path: Path, number: float) -> None:
    data = Path(shutil.copytree(films, tmp_path / "data"))
    path = data / "features/text/vectors.npy"
    vectors = np.array(np.load(path))
    vectors[-1, -1] = number
    np.save(path, vectors)
    with pytest.raises(PalateError, match="'vectors' holds NaN or infinity"):
        FeatureStore.load(data / "features/text", Dataset.load(data).catalogue)


def test_scores_that_overflow(palate: Palate, text_run: Run, tmp_path: Path) -> None:
    """Weights that are numbers, and whose products are none."""
    run = Path(shutil.copytree(text_run.folder, tmp_path / "run"))
    path = run / "model/items.safetensors"
    save_file({key: torch.full_like(one, 3e38) for key, one in load_file(path).items()}, path)
    code, out, err = palate("recommend", run, "--history", "space-1", "--json")
    assert (code, out) == (2, "")
    assert "its scores are NaN or infinite" in err


def test_a_bundle_whose_scores_overflow_is_not_served(text_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="the extra 'serve' is not installed")
    from palate.serve.config import ServeConfig
    from palate.serve.loaded_models import BundleSpec
    from palate.serve.service import Service

    bundle = Path(shutil.copytree(text_bundle, tmp_path / "bundle"))
    path = bundle / "model/items.safetensors"
    save_file({key: torch.full_like(one, 3e38) for key, one in load_file(path).items()}, path)
    write_manifest(bundle, read_json(text_bundle / NAME))
    with pytest.raises(PalateError, match="the scores of 'text' are NaN or infinite"):
        Service([BundleSpec("text", bundle)], ServeConfig()).start()


@pytest.mark.parametrize("store", ["text", "image", "lexical"])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("coverage", None), ("coverage", -1), ("content", {"kind": "text", "fields": "title"}), ("missing", {}),
        ("content", {"kind": "text", "fields": ["title"], "without": -1}), ("encoder", {"name": "x"}),
        ("items", "many"),
    ],
)  # fmt: skip
def test_a_store_that_says_something_else(films: Path, tmp_path: Path, store: str, key: str, value: object) -> None:
    folder = Path(shutil.copytree(films / "features" / store, tmp_path / store))
    write_json(folder / "store.json", {**read_json(folder / "store.json"), key: value})
    kind = LexicalStore if store == "lexical" else FeatureStore
    with pytest.raises(PalateError, match=rf"store\.json is damaged \('{key}"):
        kind.load(folder, Dataset.load(films).catalogue)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("part", pl.lit(9, pl.UInt8), "interactions of a part that there is not"),
        ("part", pl.lit("train"), "the part of an interaction is no number"),
        ("weight", pl.lit(float("nan")), "the weight of an interaction is no number"),
        ("weight", pl.lit(float("inf")), "the weight of an interaction is no number"),
        ("weight", pl.lit(None, pl.Float32), "the weight of an interaction is no number"),
        ("timestamp", pl.lit(0.5), "the timestamp of an interaction is no number"),
        ("timestamp", pl.lit(None, pl.Int64), "the timestamp of an interaction is no number"),
    ],
)
def test_interactions(films: Path, tmp_path: Path, column: str, value: pl.Expr, words: str) -> None:
    data = Path(shutil.copytree(films, tmp_path / "data"))
    path = data / "interactions.parquet"
    pl.read_parquet(path).with_columns(value.alias(column)).write_parquet(path)
    with pytest.raises(PalateError, match=words):
        Dataset.load(data)


def test_parts_that_there_are(films: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(films, tmp_path / "data"))
    path = data / "interactions.parquet"
    pl.read_parquet(path).with_columns(pl.lit(int(Part.CONTEXT), pl.UInt8).alias("part")).write_parquet(path)
    assert set(Dataset.load(data).parts.tolist()) == {3}


@pytest.mark.parametrize("column", ["item_id", "title", "image"])
@pytest.mark.parametrize("value", [pl.lit(7), pl.lit(b"x"), pl.concat_list(pl.lit("x"))])
def test_titles_that_are_no_text(films: Path, tmp_path: Path, column: str, value: pl.Expr) -> None:
    data = Path(shutil.copytree(films, tmp_path / "data"))
    path = data / "items.parquet"
    pl.read_parquet(path).with_columns(value.alias(column)).write_parquet(path)
    with pytest.raises(PalateError, match=f"the column '{column}' of the catalogue is not text|names item"):
        Dataset.load(data)


def test_large_arrays_are_looked_at_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palate.storage.tensors._ROWS", 3)
    values = np.ones((10, 2), np.float32)
    assert is_finite(values)
    values[9, 1] = np.nan
    assert not is_finite(values)
    assert not is_finite(np.array(np.inf))
    assert is_finite(np.zeros((0, 2)))
    assert is_finite(np.array([1]))
    assert not is_finite(torch.tensor([torch.nan]))
    assert is_finite(torch.tensor([True]))
