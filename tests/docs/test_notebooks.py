"""Every notebook runs as it stands, is committed without outputs, and has a page."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "website"))

from notebook_pages import notebook_page  # noqa: E402
from run_notebooks import NOTEBOOKS, execute, nbformat  # noqa: E402

NAMES = [path.stem for path in NOTEBOOKS]
SLOW = {"language-models"}


def test_there_is_one_for_each_task() -> None:
    assert set(NAMES) == {
        *("first-model", "your-own-shop", "fair-comparison", "aligning", "language-models", "serving"),
    }


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_it_is_committed_without_outputs(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        assert not cell.get("outputs"), "clear all outputs"
        assert cell.get("execution_count") is None, "clear all outputs"


@pytest.mark.parametrize(
    "path", [pytest.param(path, marks=[pytest.mark.slow] * (path.stem in SLOW), id=path.stem) for path in NOTEBOOKS]
)
def test_it_runs(path: Path, tmp_path: Path) -> None:
    execute(path, tmp_path)


def test_its_page_has_text_code_and_outputs(tmp_path: Path) -> None:
    node = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_markdown_cell("# Adding"),
            nbformat.v4.new_code_cell("1 + 1", outputs=[nbformat.v4.new_output("execute_result", {"text/plain": "2"})]),
        ]
    )
    path = tmp_path / "adding.ipynb"
    path.write_text(nbformat.writes(node), encoding="utf-8")
    page = notebook_page(path)
    assert page.startswith("# Adding\n\n*A notebook: `notebooks/adding.ipynb`.")
    assert "~~~~python\n1 + 1\n~~~~" in page
    assert "2" in page.partition("~~~~\n\n")[2]
