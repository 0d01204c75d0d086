"""Catalogue fields from training to alignment: learnt, kept with the run, moved by value, refused before any work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from palate.alignment.align import align
from palate.data.catalogue import Catalogue
from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.experiments.tune import tune
from palate.experiments.tune_recipe import TuneRecipe
from palate.rankers.registry import load_recommender
from palate.rankers.sequential import SequentialRanker
from palate.runs.run import Run
from palate.training.fit import train

Ring = Callable[..., Dataset]
SMALL: dict[str, dict[str, Any]] = {
    "ranker": {"dim": 16, "max_length": 10, "dropout": 0.1},
    "trainer": {"epochs": 3, "batch_size": 16, "learning_rate": 0.01, "device": "cpu", "tensorboard": False},
}
STILL = {**SMALL, "trainer": {**SMALL["trainer"], "epochs": 1, "learning_rate": 1e-9}}


@pytest.fixture
def shop(ring: Ring) -> Callable[..., Dataset]:
    """The ring, whose items have a brand, and a price that grows along it."""

    def build(first_item: int = 0, brands: int = 5, **options: int) -> Dataset:
        data = ring(first_item=first_item, **options)
        numbers = [int(item.split("-")[1]) for item in data.catalogue.ids[1:]]
        frame = data.catalogue.frame.with_columns(
            brand=pl.Series([f"brand {n % brands}" for n in numbers]), price=pl.Series([float(n) for n in numbers])
        )
        return replace(data, catalogue=Catalogue(frame))

    return build


def fit(data: Dataset, out: Path, settings: dict[str, Any] = SMALL, modalities: tuple[str, ...] = ("fields",), **more):
    return train(data, model="sasrec", out=out, modalities=modalities, settings=settings, **more)


def model_of(run: Run) -> SequentialRanker:
    model = load_recommender(run)
    assert isinstance(model, SequentialRanker)
    return model


def with_fields(*names: str, settings: dict[str, Any] = SMALL) -> dict[str, Any]:
    return {**settings, "ranker": {**settings["ranker"], "fields": list(names)}}


def test_a_run_of_fields_is_traced_kept_and_resumed(shop: Ring, tmp_path: Path) -> None:
    data = shop()
    run = fit(data, tmp_path / "run", with_fields("price", "brand"), modalities=("id", "fields"))
    told = run.info["features"]["fields"]
    assert told["content"] == {"kind": "fields", "fields": ["price", "brand"]}
    assert told["coverage"] == {"items": 1.0, "interactions": 1.0}
    assert run.info["options"]["settings"]["ranker"]["fields"] == ["price", "brand"]
    model = model_of(run)
    assert model.fields is not None
    assert model.fields.names == ["price", "brand"]
    assert model.fields.size == 16 + 5
    again = fit(data, tmp_path / "run", with_fields("price", "brand"), modalities=("id", "fields"), resume=True)
    assert again.info["finished"]


def test_runs_without_fields_record_what_they_did_before(shop: Ring, tmp_path: Path) -> None:
    run = fit(shop(), tmp_path / "run", modalities=("id",))
    assert "fields" not in run.info["options"]["settings"]["ranker"]
    assert "fields" not in (run.model_folder / "config.json").read_text()


def test_a_warm_start_moves_vectors_with_their_values(shop: Ring, tmp_path: Path) -> None:
    """Other items, two new brands that take codes between the old ones, other prices: an old brand is what it was."""
    first = fit(shop(), tmp_path / "first")
    later = shop(first_item=5, brands=7, seed=2)
    frame = later.catalogue.frame.with_columns(brand="a " + pl.col("brand")).with_columns(
        brand=pl.when(pl.col("brand") == "a brand 6").then(pl.lit("a brand 6")).otherwise(pl.col("brand").str.slice(2))
    )
    later = replace(later, catalogue=Catalogue(frame))
    second = fit(later, tmp_path / "second", STILL, warm_start=tmp_path / "first")
    old, new = model_of(first), model_of(second)
    assert old.fields is not None
    assert new.fields is not None
    assert new.fields.size == old.fields.size + 2
    same = [f"item-{n}" for n in range(5, 30) if n % 5 == n % 7]
    before = old.table()[[first.catalogue.index[item] for item in same]]
    after = new.table()[[second.catalogue.index[item] for item in same]]
    torch.testing.assert_close(before, after, atol=1e-5, rtol=1e-4)


def test_alignment_starts_at_the_scores_of_the_run(shop: Ring, tmp_path: Path) -> None:
    data = shop(longest=18)
    base = fit(data, tmp_path / "base", modalities=("id", "fields"))
    settings: dict[str, Any] = {"trainer": {"epochs": 1, "learning_rate": 1e-9, "tensorboard": False}}
    settings["negatives"] = {"pool_k": 5}
    aligned = align(base, out=tmp_path / "aligned", dataset=data, settings=settings)
    torch.testing.assert_close(
        model_of(aligned).score([[1, 2, 3]]), model_of(base).score([[1, 2, 3]]), atol=1e-4, rtol=1e-4
    )
    assert model_of(aligned).fields == model_of(base).fields


@pytest.mark.parametrize(
    ("settings", "modalities", "message"),
    [
        (with_fields("brnd"), ("fields",), r"the catalogue has no field 'brnd'\. Did you mean 'brand'\?"),
        (with_fields("brand"), ("id",), "'fields' is not one of the modalities"),
        (with_fields("brand", "brand"), ("fields",), "must be different"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(
    settings: dict[str, Any], modalities: tuple[str, ...], message: str, shop: Ring, tmp_path: Path
) -> None:
    with pytest.raises(PalateError, match=message):
        fit(shop(), tmp_path / "run", settings, modalities)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("fields", [["brnd"], "brand,brnd"])
def test_a_search_refuses_the_field_before_the_first_trial(shop: Ring, tmp_path: Path, fields: Any) -> None:
    recipe = TuneRecipe.parse(
        {
            "model": "sasrec",
            "modalities": ["id", "fields"],
            "settings": {"ranker": {"fields": fields}},
            "search": {"ranker.dropout": {"low": 0.1, "high": 0.5}},
        },
        where="test",
    )
    with pytest.raises(PalateError, match="no field 'brnd'"):
        tune(shop(), recipe, trials=1, out=tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_the_command_reads_fields_of_the_catalogue(
    shop: Ring, tmp_path: Path, palate: Callable[..., tuple[int, str, str]]
) -> None:
    shop().save(tmp_path / "data")
    words = ("train", tmp_path / "data", "--model", "sasrec", "--modalities", "id,fields", "--epochs", 1)
    code, _, errors = palate(*words, "--set", "ranker.dim=8", "--out", tmp_path / "run")
    assert code == 0, errors
    assert Run.open(tmp_path / "run").info["features"]["fields"]["content"]["fields"] == ["brand", "price"]
    code, _, errors = palate(*words, "--set", 'ranker.fields=["colour"]', "--out", tmp_path / "other")
    assert code == 2
    assert "the catalogue has no field 'colour'. Choose one of: brand, price." in " ".join(errors.split())
    code, _, errors = palate(*words, "--store", "fields=text", "--out", tmp_path / "other")
    assert code == 2
    assert not (tmp_path / "other").exists()
