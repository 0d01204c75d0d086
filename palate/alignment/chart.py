"""The diagnostics of an alignment as one picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from palate.alignment.diagnostics import RANK_NAMES
from palate.plots import BLUE, GREEN, GREY, RED, picture, plot_columns, second_scale
from palate.runs.log import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_alignment(rows: list[Row], held_out: float | None, path: Path) -> None:
    """Four panels: rewards, drift and scale, ranks of the negatives, suspected false negatives."""
    with picture(path, 11, 7.5) as figure:
        rewards, drift, ranks, later = figure.subplots(2, 2).flat
        _panel(rewards, rows, "reward_accuracy", "share of pairs", "reward_margin", "Reward accuracy and margin")
        title = "Chosen log-probability against the reference"
        _panel(drift, rows, "chosen_drift", "nats", "score_scale", title)
        drift.axhline(0, color=GREY, linewidth=0.8)
        _ranks(ranks, rows)
        drawn = plot_columns(later, rows, "epoch", {"pool_later": BLUE, "gradient_later": RED})
        later.set(xlabel="epoch", ylabel="share", title="Negatives that the user takes later in training")
        if held_out is not None:
            later.axhline(held_out, color=GREEN, linestyle="--", label="held-out items, last position")
        if drawn or held_out is not None:
            later.legend()


def _panel(axes: Axes, rows: list[Row], left: str, label: str, right: str, title: str) -> None:
    """One column on each of two scales, which are labelled in its colour."""
    other = second_scale(axes)
    plot_columns(axes, rows, "epoch", {left: BLUE})
    plot_columns(other, rows, "epoch", {right: RED})
    axes.set(xlabel="epoch", title=title)
    axes.set_ylabel(label, color=BLUE)
    other.set_ylabel(right.replace("_", " "), color=RED)


def _ranks(axes: Axes, rows: list[Row]) -> None:
    measured = [row for row in rows if RANK_NAMES[0] in row]
    labels = [name.removeprefix("rank_").replace("_on", "+").replace("_", "-") for name in RANK_NAMES]
    if measured:
        places = range(len(labels))
        axes.bar([p - 0.2 for p in places], [measured[0][n] for n in RANK_NAMES], 0.4, color=GREY, label="first")
        axes.bar([p + 0.2 for p in places], [measured[-1][n] for n in RANK_NAMES], 0.4, color=BLUE, label="last")
        axes.set_xticks(list(places), labels, rotation=30, fontsize=8)
        axes.legend()
    axes.set(title="Rank of the negatives under the policy", ylabel="share")
