"""Whose vectors they are: ids of own vectors follow the rule of identity, and what may be another is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import save_file

from palate.errors import PalateError
from palate.features.matrix import read_matrix

VECTORS = [[0.0, 1.0], [2.0, 3.0]]


def parquet(path: Path, **columns: Any) -> Path:
    pl.DataFrame({**columns, "vector": VECTORS}).write_parquet(path)
    return path


def test_a_number_of_the_row_does_not_beat_the_items(tmp_path: Path) -> None:
    with pytest.raises(PalateError, match="the columns 'item' and 'id', and either may be the id"):
        read_matrix(parquet(tmp_path / "v.parquet", item=["b", "a"], id=[0, 1]), None)
    names, _ = read_matrix(parquet(tmp_path / "v.parquet", id=[0, 1], item_id=["b", "a"]), None)
    assert names == ["b", "a"]
    assert read_matrix(parquet(tmp_path / "v.parquet", id=[7, 8]), None)[0] == ["7", "8"]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1.0, 2.0], "holds Float64. Ids must be text or whole numbers"),
        ([True, False], "holds Boolean"),
        (["1.0", "2"], "the item id '1.0' may mean the whole number"),
        (["a", None], "row 2 has no item id"),
        (["a", ""], "row 2 has no item id"),
    ],
)
def test_ids_of_a_parquet_file(tmp_path: Path, ids: list[Any], message: str) -> None:
    with pytest.raises(PalateError, match=message):
        read_matrix(parquet(tmp_path / "v.parquet", item_id=ids), None)


@pytest.mark.parametrize("ids", [["a", 1.0], ["a", True], ["a", None], ["a", "1.0"]])
def test_ids_of_a_list(tmp_path: Path, ids: list[Any]) -> None:
    np.save(tmp_path / "v.npy", np.array(VECTORS))
    (tmp_path / "ids.json").write_text(json.dumps(ids))
    with pytest.raises(PalateError, match=r"no list of ids|may mean the whole number"):
        read_matrix(tmp_path / "v.npy", tmp_path / "ids.json")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"ids": torch.tensor([1.0, 2.0])}, "the tensor 'ids' holds torch.float32"),
        ({"ids": torch.tensor([True, False])}, "the tensor 'ids' holds torch.bool"),
        ({"ids": torch.tensor([1, 2]), "item_ids": torch.tensor([3, 4])}, "'ids' and 'item_ids'"),
    ],
)
def test_ids_of_a_tensor(tmp_path: Path, tensors: dict[str, torch.Tensor], message: str) -> None:
    save_file({"v": torch.tensor(VECTORS), **tensors}, tmp_path / "v.safetensors")
    with pytest.raises(PalateError, match=message):
        read_matrix(tmp_path / "v.safetensors", None)
