"""The site builds strictly (no broken link, no page outside the navigation) and asks no other host for anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mkdocs")
pytest.importorskip("mkdocstrings")
pytest.importorskip("nbformat")

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "website"))

import model_zoo  # noqa: E402
from docstrings import markdown  # noqa: E402
from pages import moved_links, site_path  # noqa: E402


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_pages_ask_no_other_host(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        asked = re.findall(r'<(?:script|img|iframe|link)\b[^>]*(?:src|href)="?((?:https?:)?//[^">\s]+)', text)
        assert not asked, f"{page.relative_to(site)} asks {asked[0]}"


def test_the_front_page_is_the_readme_and_links_stay_in_the_site(site: Path) -> None:
    front = (site / "index.html").read_text(encoding="utf-8")
    assert 'src="pictures/report.png"' in front
    assert 'href="getting-started.html"' in front
    assert (site / "source/palate/recommender.py.html").is_file()


def test_the_reference_has_signatures_and_links(site: Path) -> None:
    text = (site / "reference/rankers.html").read_text(encoding="utf-8")
    assert 'id="palate.rankers.ease.EASE.fit"' in text
    assert "PalateError" in text
    assert ":class:" not in text


def test_the_model_zoo_is_that_of_the_registries() -> None:
    assert model_zoo.PAGE.read_text(encoding="utf-8") == model_zoo.model_zoo(), "run `make zoo`"


def test_links_are_moved() -> None:
    text = "[a](../palate/x.py) [b](data.md#readers) [c](../README.md#install) [d](https://x.example/) [e](#here)"
    moved = "[a](source/palate/x.py.md) [b](data.md#readers) [c](index.md#install) [d](https://x.example/) [e](#here)"
    assert moved_links(text, "docs/page.md") == moved
    assert site_path("notebooks/serving.ipynb") == "notebooks/serving.md"


def test_roles_become_links() -> None:
    link = '<autoref identifier="palate.runs.run.Run" optional><code>Run</code></autoref>'
    assert markdown("A :class:`~palate.runs.run.Run`::\n\n    code") == f"A {link}:\n\n    code"
