"""Pictures: one style for every chart, and one way to write a PNG."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palate.storage.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Distinct for readers with red-green colour blindness too; the first eight lines of a chart.
COLOURS = ("#3b6fb6", "#d1603d", "#4c9a67", "#8a62a8", "#b08d2f", "#5b6b7a", "#c2578f", "#3a9fa8")
BLUE, RED, GREEN, GREY = COLOURS[0], COLOURS[1], COLOURS[2], COLOURS[5]
_PLACINGS = 6  # of names beside points, at most
_STYLE: dict[Any, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "figure.dpi": 120,
    "figure.titlesize": 10,
    "grid.alpha": 0.5,
    "grid.linewidth": 0.4,
    "legend.fontsize": 9,
    "legend.frameon": False,
}


@contextmanager
def picture(
    path: Path | str, width: float, height: float, metadata: Mapping[str, str] | None = None
) -> Iterator[Figure]:
    """Yield an empty figure in the common style; it is written to ``path`` as a PNG when the block ends.

    Args:
        width, height: in inches, of 120 pixels each.
        metadata: texts that the PNG carries, by their keys.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        with atomic_file(path) as part:
            figure.savefig(part, format="png", metadata=dict(metadata or {}))


def second_scale(axes: Axes) -> Axes:
    """Axes over the same places whose vertical scale stands on the right."""
    twin = axes.twinx()
    twin.spines["right"].set_visible(True)
    return twin


def name_points(axes: Axes, names: Sequence[tuple[str, tuple[float, float], str]]) -> None:
    """Write names beside their points; one that would cover another name or a point goes above it, on a thin line.

    The layout makes room for names at the edges, which moves points, so names are placed a few times.

    Args:
        axes: with all else that is drawn there.
        names: text, point and colour.
    """
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    figure: Any = axes.figure
    lowest_first = sorted(names, key=lambda one: (one[1][1], one[1][0]))
    labels: list[Any] = []
    for text, point, colour in lowest_first:
        line = {"arrowstyle": "-", "color": colour, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2, "relpos": (0, 0)}
        labels.append(
            axes.annotate(
                text, point, xytext=(5, 4), textcoords="offset points", fontsize=8, color=colour, arrowprops=line
            )
        )
        labels[-1].arrow_patch.set_visible(False)
    for _ in range(_PLACINGS):
        figure.draw_without_rendering()
        centres = axes.transData.transform([point for _, point, _ in lowest_first])
        taken = [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in centres]
        raised = False
        for label in labels:
            box = start = Text.get_window_extent(label)
            while covered := [one for one in taken if one.overlaps(box)]:
                box = box.translated(0, max(one.y1 for one in covered) - box.y0 + 1)
            if box.y0 > start.y0:
                label.xyann = (5, label.xyann[1] + (box.y0 - start.y0) * 72 / figure.dpi)
                label.arrow_patch.set_visible(True)
                raised = True
            taken.append(box)
        if not raised:
            return


def plot_columns(axes: Axes, rows: Sequence[Mapping[str, Any]], over: str, colours: Mapping[str, str]) -> int:
    """A line for each named column over the column ``over``; rows that lack a value are left out.

    Args:
        colours: column -> colour.

    Returns:
        How many lines there are: a column without any value has none.
    """
    drawn = 0
    for name, colour in colours.items():
        points = [(row[over], row[name]) for row in rows if name in row]
        if points:
            axes.plot(*zip(*points, strict=True), color=colour, marker=".", label=name.replace("_", " "))
            drawn += 1
    return drawn
