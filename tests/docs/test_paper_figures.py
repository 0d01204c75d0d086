"""The figures of the papers are those that ``make figures`` draws, and nothing in them overlaps or sticks out."""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "website"))

from diagram import DPI, Bar, Box, Diagram, Label, Tile, written_digest  # noqa: E402
from paper_figures import FIGURES, main  # noqa: E402

PICTURES = ROOT / "docs" / "pictures"
Extent = tuple[float, float, float, float]  # left, bottom, right, top, in inches
NAMES = sorted(FIGURES)


def overlap(one: Extent, other: Extent) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def inside(one: Extent, other: Extent) -> bool:
    return other[0] <= one[0] and other[1] <= one[1] and one[2] <= other[2] and one[3] <= other[3]


def extents(diagram: Diagram) -> list[tuple[object, Extent, list[Extent]]]:
    """Every box, tile, bar and label with its own extent and those of its texts, as matplotlib lays them out."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(diagram.width, diagram.height), dpi=DPI)
    renderer = FigureCanvasAgg(figure).get_renderer()
    found = []
    for element, texts in diagram.draw(figure.add_axes((0, 0, 1, 1))):
        boxes = [tuple(value / DPI for value in text.get_window_extent(renderer).extents) for text in texts]
        if isinstance(element, Box | Bar):
            right, top = element.left + element.width, element.bottom + element.height
            found.append((element, (element.left, element.bottom, right, top), boxes))
        elif isinstance(element, Tile):
            right, top = element.left + element.size, element.bottom + element.size
            found.append((element, (element.left, element.bottom, right, top), boxes))
        elif isinstance(element, Label):
            found.append((element, boxes[0], []))
    return found


def test_the_committed_figures_are_those_of_the_script(tmp_path: Path) -> None:
    main(["--out", str(tmp_path)])
    assert sorted(path.stem for path in tmp_path.iterdir()) == NAMES
    for name, draw in FIGURES.items():
        assert written_digest(tmp_path / f"{name}.png") == draw().digest()
        assert written_digest(PICTURES / f"{name}.png") == draw().digest(), f"{name}.png is old: run `make figures`"


def test_a_figure_that_was_changed_has_another_digest() -> None:
    diagram = FIGURES["rodpo"]()
    before = diagram.digest()
    box = next(place for place, one in enumerate(diagram.elements) if isinstance(one, Box))
    diagram.elements[box] = replace(diagram.elements[box], left=0.0)
    assert diagram.digest() != before


def test_a_picture_without_a_digest_is_nobodys() -> None:
    assert written_digest(PICTURES / "scale.png") is None


@pytest.mark.parametrize("name", NAMES)
def test_texts_stay_within_their_boxes_and_the_canvas(name: str) -> None:
    diagram = FIGURES[name]()
    canvas = (0.0, 0.0, diagram.width, diagram.height)
    for element, extent, texts in extents(diagram):
        assert inside(extent, canvas), f"{element} sticks out"
        for text in texts:
            assert inside(text, extent), f"a text is wider than {element}"


@pytest.mark.parametrize("name", NAMES)
def test_nothing_lies_over_something_else(name: str) -> None:
    """Lanes, and a box that holds others, have things on them; all else has its own place."""
    for (one, first, _), (other, second, _) in combinations(extents(FIGURES[name]()), 2):
        if overlap(first, second):
            assert isinstance(one, Box), f"{one} overlaps {other}"
            assert inside(second, first), f"{other} is half on {one}"
            assert one.look == "lane" or not one.title, f"{other} hides the words of {one}"


@pytest.mark.parametrize("name", NAMES)
def test_each_figure_is_on_a_page(name: str) -> None:
    pages = [page.name for page in (ROOT / "docs").glob("*.md") if f"pictures/{name}.png)" in page.read_text("utf-8")]
    assert "gallery.md" in pages
    assert len(pages) > 1
