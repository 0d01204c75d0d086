"""The rooms of the import contract and of the page about them are those of the package."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="not beside an installed wheel")
def test_every_room_has_a_layer_and_a_row() -> None:
    there = {
        path.stem
        for path in (ROOT / "palate").iterdir()
        if not path.name.startswith("__") and (path.suffix == ".py" or (path / "__init__.py").is_file())
    }
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = " | ".join(contracts[0]["layers"])
    assert {name.strip().removeprefix("palate.") for name in layers.split("|")} == there
    table = (ROOT / "docs/architecture.md").read_text().split("## Rooms")[1].split("`objectives` also")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == there
