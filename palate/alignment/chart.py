"""The diagnostics of an alignment as one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from palate.alignment.diagnostics import RANK_NAMES
from palate.runs.log import Row
from palate.storage.files import atomic_file

_BLUE, _RED, _GREY, _GREEN = "#2a6f97", "#d1495b", "#8a8f98", "#2e8b57"


def plot_alignment(rows: list[Row], held_out: float | None, path: Path) -> None:
    """Four panels: rewards, drift and scale, ranks of the negatives, suspected false negatives."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7.5), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 2)
    _lines(panels[0, 0], rows, {"reward_accuracy": _BLUE}, "share of pairs", "Reward accuracy and margin")
    _lines(panels[0, 0].twinx(), rows, {"reward_margin": _RED}, "reward margin", None)
    _lines(panels[0, 1], rows, {"chosen_drift": _BLUE}, "nats", "Chosen log-probability against the reference")
    panels[0, 1].axhline(0, color=_GREY, linewidth=0.8)
    _lines(panels[0, 1].twinx(), rows, {"score_scale": _RED}, "score scale", None)
    _ranks(panels[1, 0], rows)
    shares = {"pool_later": _BLUE, "gradient_later": _RED}
    _lines(panels[1, 1], rows, shares, "share", "Negatives that the user takes later in training")
    if held_out is not None:
        panels[1, 1].axhline(held_out, color=_GREEN, linestyle="--", label="held-out items, last position")
        panels[1, 1].legend(frameon=False)
    with atomic_file(path) as part:
        figure.savefig(part, format="png")


def _lines(axes: Any, rows: list[Row], colours: dict[str, str], label: str, title: str | None) -> None:
    for name, colour in colours.items():
        points = [(row["epoch"], row[name]) for row in rows if name in row]
        if points:
            axes.plot(*zip(*points, strict=True), color=colour, marker=".", label=name.replace("_", " "))
    axes.set_ylabel(label, color=next(iter(colours.values())) if len(colours) == 1 else "black")
    if title:
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("epoch")
    if len(colours) > 1 and axes.lines:
        axes.legend(frameon=False)
    axes.spines[["top"]].set_visible(False)


def _ranks(axes: Any, rows: list[Row]) -> None:
    seen = [row for row in rows if RANK_NAMES[0] in row]
    labels = [name.removeprefix("rank_").replace("_on", "+").replace("_", "-") for name in RANK_NAMES]
    if seen:
        places = range(len(labels))
        axes.bar([p - 0.2 for p in places], [seen[0][n] for n in RANK_NAMES], 0.4, color=_GREY, label="first")
        axes.bar([p + 0.2 for p in places], [seen[-1][n] for n in RANK_NAMES], 0.4, color=_BLUE, label="last")
        axes.set_xticks(list(places), labels, rotation=30, fontsize=8)
        axes.legend(frameon=False)
    axes.set_title("Rank of the negatives under the policy", fontsize=10)
    axes.set_ylabel("share")
    axes.spines[["top", "right"]].set_visible(False)
