"""docs/objectives.md keeps its word: its Python runs, its names and defaults are those of the code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from palate.objectives import PREFERENCES
from palate.objectives.hanorec import HaNoRecConfig

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "objectives.md").read_text(encoding="utf-8")


def test_its_python_runs() -> None:
    (script,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("0.66")


@pytest.mark.parametrize("name", list(PREFERENCES))
def test_every_objective_is_on_it_with_its_settings(name: str) -> None:
    row = re.search(rf"^\| `{name}` \|.*\| (.*) \| .* ?\|$", PAGE, re.M)
    assert row, f"docs/objectives.md does not describe {name}"
    for option, default in re.findall(r"`(\w+)` ([\d.]+)", row[1]):
        assert PREFERENCES[name].Config.model_fields[option].default == float(default)
    if name != "hanorec":
        assert set(re.findall(r"`(\w+)`", row[1])) == set(PREFERENCES[name].Config.model_fields)


def test_every_setting_of_hanorec_is_on_it() -> None:
    table = re.findall(r"^\| `(\w+)` \| `?([\w.-]+)`? \|", PAGE.partition("## HaNoRec")[2], re.M)
    defaults = {name: str(field.default) for name, field in HaNoRecConfig.model_fields.items() if name != "beta"}
    assert {name: value.removesuffix(".0") for name, value in defaults.items()} == dict(table)
