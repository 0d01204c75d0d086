"""docs/fidelity.md names code and tests that are there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMED = sorted(set(re.findall(r"`([\w/]+\.py)::([\w.]+)`", (ROOT / "docs/fidelity.md").read_text(encoding="utf-8"))))


@cache
def symbols(path: str) -> set[str]:
    found = set()
    for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return found


@pytest.mark.parametrize(("path", "symbol"), NAMED, ids=[f"{path}::{symbol}" for path, symbol in NAMED])
def test_it_is_there(path: str, symbol: str) -> None:
    assert symbol in symbols(path)


def test_every_row_names_code_and_a_test() -> None:
    rows = [line for line in (ROOT / "docs/fidelity.md").read_text(encoding="utf-8").splitlines() if "::" in line]
    assert len(rows) > 25
    for row in rows:
        named = re.findall(r"`([\w/]+\.py)::", row)
        assert [path.split("/")[0] for path in named] == ["palate", "tests"], row
