"""Every command works in folders with brackets, beside folders that a pattern would find."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
from cli_helpers import Shell

from palate.bundle import Bundle
from palate.data.dataset import Dataset
from palate.evaluation.outputs import load_result
from palate.features.store import FeatureStore


def test_from_a_log_to_a_bundle_in_folders_with_brackets(palate: Shell, shop: Path, tmp_path: Path) -> None:
    data, decoy = tmp_path / "v[2]", tmp_path / "v2"
    for folder in (data, decoy):
        shutil.copytree(shop, folder)
    users = pl.read_parquet(decoy / "users.parquet")
    users.select("decoy-" + pl.col("user_id")).write_parquet(decoy / "users.parquet")
    ids = [f"i{n}" for n in range(13)]
    matrix = pl.DataFrame({"item_id": ids, "vector": np.eye(13, 4).tolist()})
    matrix.write_parquet((tmp_path / "m[1].parquet").open("wb"))
    assert palate("encode", data, "--matrix", tmp_path / "m[1].parquet", "--modality", "text").code == 0
    assert FeatureStore.load(data / "features/text", Dataset.load(data).catalogue).table["item_id"].to_list() == ids
    run, table, bundle = (tmp_path / name for name in ("pop[1]", "table[1]", "bundle[1]"))
    assert palate("train", data, "--model", "popularity", "--out", run).code == 0
    assert palate("evaluate", run, "--out", table).code == 0
    assert load_result(table).frame["user_id"].n_unique() == 40
    assert palate("recommend", run, "--user", "u1", "--json").code == 0
    assert palate("bundle", run, "--table", table, "--out", bundle).code == 0
    assert palate("recommend", bundle, "--history", "i1", "--json").code == 0
    assert Bundle.load(bundle).recommend(["i1"])
