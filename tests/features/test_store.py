"""A store is matched by item id, and refused when it is stale, partial or damaged."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from feature_helpers import build, foretold, picture, vector_of

from palate.data.catalogue import Catalogue
from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.features.encode import encode
from palate.features.store import FeatureStore


@pytest.fixture
def made(tmp_path: Path) -> tuple[Dataset, Path]:
    dataset = build(tmp_path)
    encode(dataset, tmp_path / "data", "text", encoder=foretold("text"))
    encode(dataset, tmp_path / "data", "image", encoder=foretold("image"))
    return dataset, tmp_path / "data/features"


def test_vectors_are_memory_mapped_and_row_zero_is_padding(made: tuple[Dataset, Path]) -> None:
    dataset, features = made
    store = FeatureStore.load(features / "text", dataset.catalogue)
    assert isinstance(store.vectors, np.memmap)
    assert store.vectors.shape == (7, 3)
    assert store.vectors.dtype == np.float32
    assert not store.vectors[0].any()
    assert store.present.tolist() == [False, True, True, False, True, True, True]
    assert store.vectors[1].tolist() == vector_of("Heat (1995)")
    assert store.modality == "text"
    assert store.encoder == "foretold"
    assert store.coverage == 5 / 6
    assert store.coverage_of(dataset.items) == 4 / 5


def test_rows_follow_a_catalogue_in_another_order(made: tuple[Dataset, Path]) -> None:
    dataset, features = made
    frame = dataset.catalogue.frame[[4, 2, 0]]  # i5, i3, i1: re-indexed, and fewer
    store = FeatureStore.load(features / "text", Catalogue(frame, dataset.catalogue.root))
    assert store.present.tolist() == [False, True, False, True]
    assert store.vectors.tolist() == [[0, 0, 0], vector_of("Jaws (1975)"), [0, 0, 0], vector_of("Heat (1995)")]
    assert store.table["item_id"].to_list() == ["i5", "i3", "i1"]
    with pytest.raises(ValueError, match="read-only"):
        store.vectors[1] = 0


def test_a_new_item_makes_the_store_stale(made: tuple[Dataset, Path]) -> None:
    dataset, features = made
    new = pl.DataFrame({"item_id": ["i9"], "title": ["New"], "image": [None]}, schema=dataset.catalogue.frame.schema)
    grown = Catalogue(pl.concat([dataset.catalogue.frame, new]), dataset.catalogue.root)
    with pytest.raises(PalateError, match=r"stale: it lacks 1 item, such as 'i9'.*--overwrite"):
        FeatureStore.load(features / "text", grown)


def test_a_store_that_has_an_item_twice_is_damaged(made: tuple[Dataset, Path]) -> None:
    dataset, features = made
    items = features / "text/items.parquet"
    table = pl.read_parquet(items)
    twice = table.with_columns(item_id=pl.Series([*table["item_id"][:-1], "i1"]))
    twice.write_parquet(items)
    with pytest.raises(PalateError, match=r"text is damaged \(it has an item twice\)"):
        FeatureStore.load(features / "text", dataset.catalogue)


def test_a_changed_text_makes_the_store_stale_and_names_the_command(made: tuple[Dataset, Path]) -> None:
    dataset, features = made
    changed = dataset.catalogue.frame.with_columns(title=pl.col("title").str.replace("Jaws", "Jaws 2"))
    with pytest.raises(PalateError) as caught:
        FeatureStore.load(features / "text", Catalogue(changed, dataset.catalogue.root))
    assert "the text of item 'i5' has changed" in str(caught.value)
    assert f"palate encode {features.parent} --text foretold --store text --overwrite" in str(caught.value)
    # A field that is no part of the text is no reason to encode again.
    priced = dataset.catalogue.frame.with_columns(price=pl.lit(3))
    FeatureStore.load(features / "text", Catalogue(priced, dataset.catalogue.root))


def test_a_lost_field_makes_the_store_stale(made: tuple[Dataset, Path]) -> None:
    dataset, features = made
    info = json.loads((features / "text/store.json").read_text())
    info["content"]["fields"] = ["title", "plot"]
    (features / "text/store.json").write_text(json.dumps(info))
    with pytest.raises(PalateError, match="stale: the catalogue has no field 'plot'"):
        FeatureStore.load(features / "text", dataset.catalogue)


def test_changed_pictures_are_noticed_and_touched_ones_are_not(made: tuple[Dataset, Path]) -> None:
    dataset, features = made
    path = dataset.catalogue.root / "pics/b.png"
    os.utime(path, (1, 1))
    FeatureStore.load(features / "image", dataset.catalogue)
    before = path.read_bytes()
    path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))  # same size, other bytes
    with pytest.raises(PalateError, match=r"stale: the picture 'pics/b\.png' of item 'i2' has changed"):
        FeatureStore.load(features / "image", dataset.catalogue)
    path.write_bytes(before + b"\0")
    with pytest.raises(PalateError, match=r"'pics/b\.png' of item 'i2' has changed"):
        FeatureStore.load(features / "image", dataset.catalogue)


def test_pictures_may_stay_behind_but_not_be_renamed(made: tuple[Dataset, Path]) -> None:
    dataset, features = made
    (dataset.catalogue.root / "pics/b.png").unlink()
    FeatureStore.load(features / "image", dataset.catalogue)
    renamed = dataset.catalogue.frame.with_columns(image=pl.col("image").str.replace("a.png", "c.png", literal=True))
    with pytest.raises(PalateError, match=r"picture of item 'i1' was 'pics/a\.png' and is now 'pics/c\.png'"):
        FeatureStore.load(features / "image", Catalogue(renamed, dataset.catalogue.root))


def test_a_picture_that_appears_makes_the_store_stale(tmp_path: Path) -> None:
    dataset = build(tmp_path, titles=["a", "b"], images=["pics/a.png", "pics/later.png"])
    encode(dataset, tmp_path / "data", "image", encoder=foretold("image"))
    picture(dataset.catalogue.root / "pics/later.png", 5)
    with pytest.raises(PalateError, match=r"'pics/later\.png' of item 'i2' has changed"):
        FeatureStore.load(tmp_path / "data/features/image", dataset.catalogue)


def _damage(folder: Path, how: str) -> None:
    vectors = np.load(folder / "vectors.npy")
    if how == "truncated":
        data = (folder / "vectors.npy").read_bytes()
        (folder / "vectors.npy").write_bytes(data[: len(data) - 8])
    elif how == "pickled":
        np.save(folder / "vectors.npy", np.array([{}], object), allow_pickle=True)
    elif how == "shape":
        np.save(folder / "vectors.npy", vectors[:-1])
    elif how == "type":
        np.save(folder / "vectors.npy", vectors.astype(np.float64))
    elif how == "padding":
        vectors[0] = 1
        np.save(folder / "vectors.npy", vectors)
    elif how == "mask":
        np.save(folder / "present.npy", np.ones(7, np.int8))
    elif how == "gone":
        (folder / "present.npy").unlink()
    elif how == "items":
        (folder / "items.parquet").write_bytes(b"PAR1")


@pytest.mark.parametrize("how", ["truncated", "pickled", "shape", "type", "padding", "mask", "gone", "items"])
def test_a_damaged_store_is_refused_with_the_remedy(made: tuple[Dataset, Path], how: str) -> None:
    dataset, features = made
    _damage(features / "text", how)
    with pytest.raises(PalateError, match=r"text is damaged .*palate encode .* --overwrite"):
        FeatureStore.load(features / "text", dataset.catalogue)


def test_a_partial_store_or_no_store_is_refused(made: tuple[Dataset, Path]) -> None:
    dataset, features = made
    path = features / "text/store.json"
    info = json.loads(path.read_text())
    path.write_text(json.dumps({**info, "complete": False}))
    with pytest.raises(PalateError, match="is not complete"):
        FeatureStore.load(features / "text", dataset.catalogue)
    path.write_text(json.dumps({**info, "format": 99}))
    with pytest.raises(PalateError, match="of a format that this Palate does not read"):
        FeatureStore.load(features / "text", dataset.catalogue)
    path.write_text("[]")
    with pytest.raises(PalateError, match="format"):
        FeatureStore.load(features / "text", dataset.catalogue)
    path.unlink()
    with pytest.raises(PalateError, match="not a feature store"):
        FeatureStore.load(features / "text", dataset.catalogue)


def test_describe_is_json_and_tells_what_is_missing(made: tuple[Dataset, Path]) -> None:
    dataset, features = made
    facts = json.loads(json.dumps(FeatureStore.load(features / "image", dataset.catalogue).describe()))
    assert facts["coverage"] == {"items": 0.5, "interactions": 0.8}
    assert sum(reason["items"] for reason in facts["missing"]) == 3
    assert facts["encoder"] == "foretold"
    assert len(facts["fingerprint"]) == 16
