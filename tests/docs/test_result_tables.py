"""The tables of figures on the pages are those of the files in docs/results, and the files are whole."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from palate.errors import PalateError
from palate.evaluation.published import laid_out
from palate.evaluation.saved import load_table
from palate.storage.files import read_json
from palate.storage.toml import read_toml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "website"))

import result_tables  # noqa: E402

FILES = sorted(result_tables.RESULTS.glob("*.json"))


@pytest.mark.parametrize("page", result_tables.PAGES, ids=lambda page: page.name)
def test_the_tables_of_a_page_are_those_of_the_results(page: Path) -> None:
    assert list(result_tables.names_on(page)), f"{page.name} has no table between comments"
    assert page.read_text(encoding="utf-8") == result_tables.written(page), "run `make tables`"


def test_every_table_is_on_a_page_and_every_result_in_a_table() -> None:
    layouts = read_toml(result_tables.TABLES)
    assert {name for page in result_tables.PAGES for name in result_tables.names_on(page)} == set(layouts)
    used = {part["result"] for one in layouts.values() for part in (one, *one["columns"]) if "result" in part}
    assert used == {path.stem for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_result_says_what_was_measured_and_how(path: Path) -> None:
    facts, table = read_json(path), load_table(path)
    assert path.read_text(encoding="utf-8") == laid_out(facts) + "\n", "not as --publish writes it"
    assert facts["title"] == table.title
    assert facts.get("command", "").startswith("palate ") or facts["notes"]
    assert table.base in table.labels
    # What was measured by this version says so itself; older figures say where they come from.
    assert facts.get("transcribed") is True or table.dataset.fingerprint
    for row in table.models:
        for figure in (*row.metrics.values(), *row.differences.values()):
            assert figure.low is None or figure.low <= figure.mean <= figure.high


@pytest.fixture
def layout() -> dict[str, Any]:
    return {
        "result": "content-beauty",
        "label": "arm",
        "columns": [{"label": "NDCG@10"}, {"label": "cold ({users})", "slice": "cold items", "show": "mean"}],
        "rows": [{"model": "ids"}, {"label": "*further*"}, {"model": "near", "bold": True}],
    }


def test_cells_are_what_columns_and_rows_say(layout: dict[str, Any]) -> None:
    lines = result_tables.markdown("x", layout).splitlines()
    assert lines[0] == "| arm | NDCG@10 | cold (138) |"
    assert lines[2] == "| ids | 0.0565 [0.0539, 0.0591] | 0.0000 |"
    assert lines[3] == "| *further* |  |  |"
    assert lines[4] == "| near | **0.0686 [0.0658, 0.0715]** | 0.0920 |"


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("rows", {"model": "idz"}),
        ("columns", {"label": "x", "metric": "ndgc@10"}),
        ("columns", {"label": "x", "slice": "cold itms"}),
        ("columns", {"label": "x", "result": "content-beatuy"}),
        ("columns", {"label": "x", "digit": 3}),
    ],
)
def test_misspelt_names_are_no_empty_cells(layout: dict[str, Any], part: str, change: dict[str, Any]) -> None:
    layout[part].append(change)
    with pytest.raises(PalateError, match=r"tables\.toml"):
        result_tables.markdown("x", layout)
