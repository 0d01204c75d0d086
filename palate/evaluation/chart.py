"""A comparison as a picture: every model's primary metric with its interval and seeds, for all users and by slice."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palate.evaluation.compare import Comparison, Row
from palate.evaluation.tables import label_of
from palate.storage.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#3b6fb6", "#d1603d", "#4c9a67", "#8a62a8", "#b08d2f", "#5b6b7a", "#c2578f", "#3a9fa8")
_BLUE, _GREY = COLOURS[0], COLOURS[5]
_COLUMNS = 2
_LONGEST = 40


def draw(comparison: Comparison, path: Path | str) -> None:
    """Write :func:`figure_of` as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = figure_of(comparison)
    FigureCanvasAgg(figure)
    with atomic_file(path) as part:
        figure.savefig(part, format="png", dpi=120)


def figure_of(comparison: Comparison) -> Figure:
    """A panel for all users and one for each slice of at least two, with a named line a model in each.

    The dot is the mean, the line its interval, the small marks are seeds; the dashed line is where the base stands.
    Panels have scales of their own, for a slice of a few users says far less than the whole.
    """
    from matplotlib.figure import Figure

    panels = [(f"all users ({comparison.facts['cases']:,})", comparison.rows)]
    panels += [(f"{name} ({users:,})", rows) for name, (users, rows) in comparison.slices.items() if users > 1]
    lines = math.ceil(len(panels) / _COLUMNS)
    height = 1.0 + lines * (0.55 + 0.24 * len(comparison.rows))
    figure = Figure(figsize=(11 if len(panels) > 1 else 8, min(height, 60)), layout="constrained")
    grid = figure.subplots(lines, min(_COLUMNS, len(panels)), squeeze=False, sharey=True)
    places = grid.flatten().tolist()
    for axes, (title, rows) in zip(places, panels, strict=False):
        _panel(axes, title, rows, comparison)
    for axes in places[len(panels) :]:
        axes.set_axis_off()
    names = [_short(row.label) for row in comparison.rows]
    places[0].set_yticks(range(len(names)), names)
    places[0].set_ylim(len(names) - 0.4, -0.6)
    facts = comparison.facts
    figure.suptitle(
        f"{label_of(comparison.primary)} on {facts['dataset']['name']}, {facts['split']} split, {facts['name']}; "
        "95% intervals",
        fontsize=10,
    )
    return figure


def _panel(axes: Any, title: str, rows: list[Row], comparison: Comparison) -> None:
    metric = comparison.primary
    for place, row in enumerate(rows):
        one, seeds = row.estimates[metric], row.by_seed[metric]
        colour = _GREY if row.label == comparison.base else _BLUE
        axes.plot([one.low, one.high], [place, place], color=colour, linewidth=2, alpha=0.55, solid_capstyle="butt")
        axes.plot([one.mean], [place], "o", color=colour, markersize=5)
        if len(seeds) > 1:
            axes.plot(seeds, [place] * len(seeds), "|", color="black", markersize=6, markeredgewidth=0.8)
        if row.label == comparison.base:
            axes.axvline(one.mean, color=_GREY, linewidth=0.8, linestyle="--", zorder=0)
    axes.set_title(title, loc="left", fontsize=9)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", linewidth=0.4, alpha=0.5)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0, labelsize=9)


def _short(label: str) -> str:
    """A label that leaves room for the picture; ``$`` would begin a formula."""
    text = label if len(label) <= _LONGEST else f"{label[: _LONGEST - 1]}…"
    return text.replace("$", r"\$")
