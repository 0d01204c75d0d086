"""Vectors made elsewhere: three file kinds, matched by item id, refused when they are not sound."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from feature_helpers import build
from safetensors.torch import save_file

from palate.data.catalogue import Catalogue
from palate.errors import PalateError
from palate.features.matrix import import_matrix, read_matrix
from palate.features.store import FeatureStore

IDS = ["i2", "i1", "i6", "stranger"]
ROWS = np.arange(8, dtype=np.float32).reshape(4, 2)


def write(folder: Path, kind: str) -> Path:
    path = folder / f"vectors.{kind.split('-')[0]}"
    if kind == "npy-txt":
        np.save(path, ROWS)
        (folder / "vectors.ids.txt").write_text("\n".join(IDS) + "\n")
    elif kind == "npy-json":
        np.save(path, ROWS.astype(np.float64))
        (folder / "vectors.ids.json").write_text(json.dumps(IDS))
    elif kind == "safetensors-metadata":
        save_file({"v": torch.from_numpy(ROWS).bfloat16()}, path, metadata={"ids": json.dumps(IDS)})
    elif kind == "parquet-list":
        pl.DataFrame({"item_id": IDS, "vector": ROWS.tolist()}).write_parquet(path)
    elif kind == "parquet-array":
        pl.DataFrame({"sku": IDS, "vector": ROWS}, schema_overrides={"vector": pl.Array(pl.Float32, 2)}).write_parquet(
            path
        )
    return path


@pytest.mark.parametrize("kind", ["npy-txt", "npy-json", "safetensors-metadata", "parquet-list", "parquet-array"])
def test_rows_are_matched_by_item_id(tmp_path: Path, kind: str) -> None:
    dataset = build(tmp_path)
    store = import_matrix(dataset, tmp_path / "data", "image", write(tmp_path, kind), name="my-clip")
    assert store.present.tolist() == [False, True, True, False, False, False, True]
    assert store.vectors.tolist() == [[0, 0], [2, 3], [0, 1], [0, 0], [0, 0], [0, 0], [4, 5]]
    assert (store.encoder, store.modality, store.vectors.dtype) == ("my-clip", "image", np.float32)
    assert store.info["encoder"]["rows_of_unknown_items"] == 1
    assert store.info["missing"] == [{"reason": "no row in the matrix", "items": 3, "examples": ["i3", "i4", "i5"]}]
    assert store.info["coverage"]["interactions"] == 0.8


def test_integer_ids_inside_safetensors(tmp_path: Path) -> None:
    dataset = build(tmp_path)
    frame = dataset.catalogue.frame.with_columns(item_id=pl.Series([str(n) for n in range(1, 7)]))
    dataset = replace(dataset, catalogue=Catalogue(frame, dataset.catalogue.root))
    save_file({"v": torch.eye(2), "ids": torch.tensor([6, 2])}, tmp_path / "m.safetensors")
    store = import_matrix(dataset, tmp_path / "data", "text", tmp_path / "m.safetensors")
    assert np.flatnonzero(store.present).tolist() == [2, 6]
    assert store.vectors[6].tolist() == [1, 0]


def test_the_catalogues_text_may_change_but_its_items_may_not_grow(tmp_path: Path) -> None:
    dataset = build(tmp_path)
    import_matrix(dataset, tmp_path / "data", "text", write(tmp_path, "parquet-list"))
    changed = dataset.catalogue.frame.with_columns(title=pl.lit("other"))
    FeatureStore.load(tmp_path / "data/features/text", Catalogue(changed, dataset.catalogue.root))
    grown = pl.concat([changed, changed[:1].with_columns(item_id=pl.lit("i7"))])
    with pytest.raises(PalateError, match=r"stale.*palate encode .*data --matrix .*vectors\.parquet --modality text"):
        FeatureStore.load(tmp_path / "data/features/text", Catalogue(grown, dataset.catalogue.root))


def test_numbers_that_are_not_finite_are_masked(tmp_path: Path) -> None:
    rows = ROWS.copy()
    rows[0, 1], rows[1, 0] = np.nan, 1e6
    pl.DataFrame({"item_id": IDS, "v": rows.tolist()}).write_parquet(tmp_path / "m.parquet")
    store = import_matrix(build(tmp_path), tmp_path / "data", "text", tmp_path / "m.parquet", dtype="float16")
    assert np.flatnonzero(store.present).tolist() == [6]  # 1e6 is too large for half precision
    assert {"reason": "numbers that are not finite", "items": 2, "examples": ["i1", "i2"]} in store.info["missing"]
    assert np.isfinite(store.vectors).all()


def parquet(folder: Path, **columns: Any) -> Path:
    pl.DataFrame(columns).write_parquet(folder / "m.parquet")
    return folder / "m.parquet"


def npy(folder: Path, array: np.ndarray[Any, Any], ids: str | None = None, pickle: bool = False) -> Path:
    np.save(folder / "m.npy", array, allow_pickle=pickle)
    if ids is not None:
        (folder / "m.ids.txt").write_text(ids)
    return folder / "m.npy"


BAD = {
    "has item 'i1' twice": lambda f: parquet(f, item_id=["i1", "i1"], v=[[1.0], [2.0]]),
    "row 2: the vector's length differs": lambda f: parquet(
        f, item_id=["i1", "i2", "i3"], v=[[1.0], [2.0, 3.0], [1.0]]
    ),
    "row 1: the vector's length differs": lambda f: parquet(f, item_id=["i1", "i2", "i3"], v=[None, [2.0], [1.0]]),
    "the lists hold no numbers": lambda f: parquet(f, item_id=["i1"], v=[["a"]]),
    "has 0 columns of lists": lambda f: parquet(f, item_id=["i1"], v=[1.0]),
    "has no item ids": lambda f: parquet(f, a=["i1"], b=["i2"], v=[[1.0]]),
    r"no id of .* \(such as 'x'\) is an item of the dataset \(such as 'i1'\)": lambda f: parquet(
        f, id=["x"], v=[[1.0]]
    ),
    "has no item ids. Give them with --ids": lambda f: npy(f, ROWS),
    "has 4 rows for 2 ids": lambda f: npy(f, ROWS, "i1\ni2\n"),
    "of shape 8, not a table of numbers": lambda f: npy(f, ROWS.ravel(), "i1\n"),
    "cannot be read as .npy": lambda f: npy(f, np.array([{}], object), "i1\n", pickle=True),
    "is of no kind that can be read": lambda f: f / "data/manifest.json",
    "does not exist": lambda f: f / "gone.npy",
}


@pytest.mark.parametrize("message", BAD)
def test_what_is_not_sound_is_refused(tmp_path: Path, message: str) -> None:
    dataset = build(tmp_path)
    with pytest.raises(PalateError, match=message):
        import_matrix(dataset, tmp_path / "data", "text", BAD[message](tmp_path))
    assert not (tmp_path / "data/features/text").exists()


def test_a_list_of_ids_is_read_line_by_line_without_its_byte_order_mark(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.eye(3, dtype=np.float32))
    for text in ("a\u2028b\nc\nd\n", "a\u2028b\r\nc\r\nd"):
        (tmp_path / "v.ids.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
        assert read_matrix(tmp_path / "v.npy", None)[0] == ["a\u2028b", "c", "d"]
    (tmp_path / "v.json").write_bytes(b'\xef\xbb\xbf["a", "b", "c"]')
    assert read_matrix(tmp_path / "v.npy", tmp_path / "v.json")[0] == ["a", "b", "c"]
