"""Names that users chose are printed letter by letter, whatever they would mean to the terminal library."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest
from cli_helpers import Shell

import palate as package


@pytest.mark.parametrize("name", ["knn[lr=0.1]", "x[", "a[b]b :cat: [red]c", "x[/b]run"])
def test_names_with_brackets_survive(palate: Shell, shop: Path, tmp_path: Path, name: str) -> None:
    run = tmp_path / name
    assert palate("train", shop, "--model", "popularity", "--out", run).out.startswith(f"Run: {run}  (next: ")
    refused = palate("train", tmp_path / f"no{name}", "--model", "popularity", "--out", tmp_path / "out")
    assert refused.code == 2
    assert refused.err.startswith(f"Error: {tmp_path}/no{name} ")


@pytest.mark.parametrize("name", ["a[b]b :cat: [red]c", "x[/b]run"])
def test_data_sets_and_columns_with_brackets(palate: Shell, tmp_path: Path, name: str) -> None:
    log = pl.DataFrame({"user": ["a", "a", "b"] * 3, "item": [f"i{n}" for n in range(9)]})
    items = pl.DataFrame({"item_id": log["item"], "title": [f"{name} {n}" for n in range(9)]})
    items.write_parquet(tmp_path / "items.parquet")
    log.write_parquet(tmp_path / "log.parquet")
    options = ("--catalogue", tmp_path / "items.parquet", "--out", tmp_path / "data", "--name", name)
    told = palate("prepare", tmp_path / "log.parquet", "--reader", "table", *options)
    assert told.out.startswith(f"{name}: table from log.parquet")
    assert palate("doctor", tmp_path / "data").out.startswith(f"{name}: 2 users")
    assert f"Features of {name}" in palate("encode", tmp_path / "data", "--lexical").out
    assert f"{name} 1" in palate("neighbours", tmp_path / "data", "i1").out


def test_nothing_else_makes_a_console_or_parses_markup() -> None:
    assert package.__file__ is not None
    root = Path(package.__file__).parent
    found = [
        str(path.relative_to(root))
        for path in sorted(root.rglob("*.py"))
        if path != root / "console.py" and re.search(r"(?<!open_)\bConsole\(|markup=True|from_markup", path.read_text())
    ]
    assert not found
