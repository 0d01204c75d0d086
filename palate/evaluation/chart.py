"""A comparison as a picture: every model's primary metric with its interval and seeds, for all users and by slice."""

from __future__ import annotations

from pathlib import Path

from palate.evaluation.compare import Comparison, Row
from palate.evaluation.tables import label_of
from palate.files import atomic_file

COLOURS = ("#3b6fb6", "#d1603d", "#4c9a67", "#8a62a8", "#b08d2f", "#5b6b7a", "#c2578f", "#3a9fa8")


def draw(comparison: Comparison, path: Path | str) -> None:
    """Write a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows, slices = comparison.rows, comparison.slices
    groups: list[tuple[str, list[Row]]] = [(f"all users ({comparison.facts['cases']:,})", rows)]
    groups += [(f"{name} ({users:,})", of_slice) for name, (users, of_slice) in slices.items()]
    height = 1.2 + 0.3 * len(groups) * (len(rows) + 0.8)
    figure = Figure(figsize=(9, min(height, 40)), layout="constrained")
    axes = figure.add_subplot()
    step = 0.8 / len(rows)
    for number, row in enumerate(rows):
        colour = COLOURS[number % len(COLOURS)]
        for place, (_, of_group) in enumerate(groups):
            one = of_group[number].estimates[comparison.primary]
            seeds = of_group[number].by_seed[comparison.primary]
            y = place + (number - (len(rows) - 1) / 2) * step
            axes.barh(y, one.mean, height=step * 0.86, color=colour, alpha=0.35, label=row.label if not place else None)
            axes.plot([one.low, one.high], [y, y], color=colour, linewidth=2, solid_capstyle="butt")
            if len(seeds) > 1:
                axes.plot(seeds, [y] * len(seeds), "o", color=colour, markersize=3)
    axes.set_yticks(range(len(groups)), [name for name, _ in groups])
    axes.invert_yaxis()
    if axes.get_xlim()[0] < 0 and all(row.estimates[comparison.primary].low >= 0 for row in rows):
        axes.set_xlim(left=0)
    axes.set_xlabel(f"{label_of(comparison.primary)}, with 95% intervals; dots are seeds")
    facts = comparison.facts
    axes.set_title(f"{facts['dataset']['name']}, {facts['split']} split, {facts['name']}", loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=min(len(rows), 4), frameon=False)
    FigureCanvasAgg(figure)
    with atomic_file(path) as part:
        figure.savefig(part, format="png", dpi=120)
