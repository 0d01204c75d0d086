"""A comparison as a picture: every model's primary metric with its interval and seeds, for all users and by slice."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from palate.evaluation.compare import Comparison, Row
from palate.evaluation.tables import label_of
from palate.plots import BLUE, GREY, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 2
_LONGEST = 40


def draw(comparison: Comparison, path: Path | str) -> None:
    """Write a PNG: a panel for all users and one for each slice of at least two, with one named line per model.

    The dot is the mean, the line its interval, the small marks are seeds; the dashed line is where the base stands.
    Panels have scales of their own, for a slice of a few users says far less than the whole.
    """
    panels = _panels(comparison)
    height = 1.0 + math.ceil(len(panels) / _COLUMNS) * (0.55 + 0.24 * len(comparison.rows))
    with picture(path, 11 if len(panels) > 1 else 8, min(height, 60)) as figure:
        draw_panels(figure, comparison)


def draw_panels(figure: Figure, comparison: Comparison) -> None:
    """Fill an empty figure, as :func:`draw` describes it."""
    panels = _panels(comparison)
    lines = math.ceil(len(panels) / _COLUMNS)
    grid = figure.subplots(lines, min(_COLUMNS, len(panels)), squeeze=False, sharey=True)
    places = grid.flatten().tolist()
    for axes, (title, rows) in zip(places, panels, strict=False):
        _panel(axes, title, rows, comparison)
    for axes in places[len(panels) :]:
        axes.set_axis_off()
    names = [short_label(row.label) for row in comparison.rows]
    places[0].set_yticks(range(len(names)), names)
    places[0].set_ylim(len(names) - 0.4, -0.6)
    facts = comparison.facts
    data, protocol = facts["dataset"]["name"], facts["name"]
    figure.suptitle(f"{label_of(comparison.primary)} on {data}, {facts['split']} split, {protocol}; 95% intervals")


def _panels(comparison: Comparison) -> list[tuple[str, list[Row]]]:
    """Title and rows: all users, then every slice of two users or more."""
    panels = [(f"all users ({comparison.facts['cases']:,})", comparison.rows)]
    return panels + [(f"{name} ({users:,})", rows) for name, (users, rows) in comparison.slices.items() if users > 1]


def _panel(axes: Axes, title: str, rows: list[Row], comparison: Comparison) -> None:
    metric = comparison.primary
    for place, row in enumerate(rows):
        one, seeds = row.estimates[metric], row.by_seed[metric]
        colour = GREY if row.label == comparison.base else BLUE
        axes.plot([one.low, one.high], [place, place], color=colour, linewidth=2, alpha=0.55, solid_capstyle="butt")
        axes.plot([one.mean], [place], "o", color=colour, markersize=5)
        if len(seeds) > 1:
            axes.plot(seeds, [place] * len(seeds), "|", color="black", markersize=6, markeredgewidth=0.8)
        if row.label == comparison.base:
            axes.axvline(one.mean, color=GREY, linewidth=0.8, linestyle="--", zorder=0)
    axes.set_title(title, loc="left", fontsize=9)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0, labelsize=9)


def short_label(label: str) -> str:
    """A label that leaves room for the picture; ``$`` would begin a formula."""
    text = label if len(label) <= _LONGEST else f"{label[: _LONGEST - 1]}…"
    return text.replace("$", r"\$")
