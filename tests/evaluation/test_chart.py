"""The picture of a comparison says what the table says, by name, however many models there are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluation_helpers import Fixed
from matplotlib.text import Text
from PIL import Image
from worlds import random_logs

from palate.evaluation import trade_off
from palate.evaluation.chart import draw, draw_panels
from palate.evaluation.compare import Comparison, Group, compare
from palate.evaluation.evaluate import evaluate
from palate.plots import name_points, picture


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    """Eleven models of chance, one of them with two seeds, and one whose name is a formula and too long."""
    dataset = random_logs()
    tables = [torch.rand(9, dataset.num_items + 1, generator=torch.Generator().manual_seed(n)) for n in range(12)]
    results = [evaluate(Fixed(table), dataset, ks=[5]) for table in tables]
    groups = [Group(f"model {n}", (results[n],), (0,)) for n in range(1, 10)]
    groups.append(Group("$x$ " + "y" * 60, (results[0],), (0,)))
    groups.append(Group("twice", (results[10], results[11]), (0, 1)))
    return compare(groups, base="model 3")


def test_every_model_has_its_line_in_every_panel(comparison: Comparison, tmp_path: Path) -> None:
    with picture(tmp_path / "chart.png", 11, 8) as figure:
        draw_panels(figure, comparison)
    panels = [axes for axes in figure.axes if axes.axison]
    told = {name: rows for name, (users, rows) in comparison.slices.items() if users > 1}
    assert [axes.get_title(loc="left").rpartition(" (")[0] for axes in panels] == ["all users", *told]
    names = [label.get_text() for label in panels[0].get_yticklabels()]
    assert names[:9] == [f"model {n}" for n in range(1, 10)]
    assert names[9].startswith(r"\$x\$ y")
    assert len(names[9]) < 60
    for axes, rows in zip(panels, [comparison.rows, *told.values()], strict=True):
        means = [row.estimates[comparison.primary].mean for row in rows]
        dots = [float(np.asarray(line.get_xdata())[0]) for line in axes.lines if line.get_marker() == "o"]
        assert dots == pytest.approx(means)
        (base,) = [line for line in axes.lines if line.get_linestyle() == "--"]
        assert np.asarray(base.get_xdata())[0] == means[2]
        (marks,) = [line for line in axes.lines if line.get_marker() == "|"]
        assert np.asarray(marks.get_xdata()) == pytest.approx(
            rows[-1].by_seed[comparison.primary]
        )  # it alone has several seeds


def test_it_is_a_picture(comparison: Comparison, tmp_path: Path) -> None:
    draw(comparison, tmp_path / "chart.png")
    with Image.open(tmp_path / "chart.png") as image:
        assert image.format == "PNG"
        assert image.width > 500


def test_accuracy_is_drawn_against_what_else_was_measured(comparison: Comparison, tmp_path: Path) -> None:
    assert trade_off.draw(comparison, tmp_path / "trade-off.png")  # novelty and coverage, and names of any length
    with Image.open(tmp_path / "trade-off.png") as image:
        assert image.width > 900
    alone = replace(comparison, rows=comparison.rows[:1])
    assert not trade_off.draw(alone, tmp_path / "alone.png")
    assert not (tmp_path / "alone.png").exists()


@pytest.mark.parametrize("far", [0.3, 1.0])  # in the middle, and at the right edge
@pytest.mark.parametrize("high", [0.5, 1.0])
def test_no_name_of_a_point_covers_another_or_leaves_the_picture(tmp_path: Path, far: float, high: float) -> None:
    with picture(tmp_path / "points.png", 5.2, 3.8) as figure:
        axes = figure.subplots()
        points = [(far, high), (far - 0.001, high), (far - 0.02, high - 0.001), (far - 0.02, high - 0.002), (0.0, 0.0)]
        axes.plot(*zip(*points, strict=True), "o")
        name_points(axes, [(f"sasrec-with-text-image {number}", point, "red") for number, point in enumerate(points)])
    words = [Text.get_window_extent(text) for text in axes.texts]
    assert len(words) == len(points)
    assert sum(text.xyann[1] > 4 for text in axes.texts) >= 2
    assert not any(one.overlaps(other) for one, other in combinations(words, 2))
    for box in words:
        assert figure.bbox.x0 <= box.x0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1


def test_a_row_that_is_no_model_is_left_out(comparison: Comparison, tmp_path: Path) -> None:
    figures: list[Any] = []
    bound = comparison.rows[0].label

    @contextmanager
    def kept(*words: Any) -> Iterator[Any]:
        with picture(*words) as figure:
            yield figure
            figures.append(figure)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trade_off, "picture", kept)
        for name, facts in (("all", {}), ("models", {"bounds": [bound]})):
            trade_off.draw(replace(comparison, facts={**comparison.facts, **facts}), tmp_path / f"{name}.png")
    dots = [[line for line in figure.axes[0].lines if line.get_marker() == "o"] for figure in figures]
    assert [len(one) for one in dots] == [len(comparison.rows), len(comparison.rows) - 1]
    two = replace(comparison, rows=comparison.rows[:2], facts={**comparison.facts, "bounds": [bound]})
    assert not trade_off.draw(two, tmp_path / "one.png")


def test_on_the_front_is_what_nothing_beats() -> None:
    points = {"a": (1.0, 0.1), "b": (2.0, 0.3), "c": (0.5, 0.3), "d": (float("nan"), 0.9)}
    assert trade_off.pareto_front(points, "diversity@10") == ["b"]
    assert trade_off.pareto_front(points, "miscalibration@10") == ["c"]
