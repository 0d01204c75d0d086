"""The report of an alignment of a language model: numbers, warnings and one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from palate.runs.log import Row
from palate.runs.run import Run
from palate.storage.files import atomic_file, write_json
from palate.storage.small_files import json_rows

_BLUE, _RED, _GREY, _GREEN = "#2a6f97", "#d1495b", "#8a8f98", "#2e8b57"
# A mean log-probability of the target's right answer that falls by more than this (nats) is worth a warning.
_FALL = 0.05
_PANELS: tuple[tuple[str, dict[str, str], dict[str, str]], ...] = (
    ("Reward accuracy and margin", {"reward_accuracy": _BLUE}, {"reward_margin": _RED}),
    ("Right answer against the reference (nats)", {"chosen_drift": _BLUE}, {"score_scale": _RED}),
    ("Hardness and beta", {"hardness_p05": _GREY, "hardness_p50": _BLUE, "hardness_p95": _GREY}, {"beta_mean": _RED}),
    ("Responsiveness and noise", {"responsiveness": _BLUE}, {"noise_ratio": _RED}),
    ("Rejected items that the user takes later", {"negatives_later": _BLUE, "gradient_later": _RED}, {}),
    ("Validation", {"AUC": _BLUE, "accuracy": _BLUE}, {"valid_loss": _RED}),
)


def report_alignment(run: Run) -> dict[str, Any]:
    """Write ``alignment.json`` and ``alignment.png``; returns facts for ``run.json``."""
    rows: list[Row] = list(json_rows(run.folder / "metrics.jsonl"))
    facts = {"warnings": warnings(rows)}
    write_json(run.folder / "alignment.json", {"rows": rows, **facts})
    plot(rows, run.folder / "alignment.png")
    return facts


def warnings(rows: list[Row]) -> list[str]:
    """What a user should know about the outcome."""
    found = []
    drift = next((row["chosen_drift"] for row in reversed(rows) if "chosen_drift" in row), None)
    if drift is not None and drift < -_FALL:
        found.append(
            f"the log-probability of the right answer about targets fell by {-drift:.3f} on average: the policy pushes "
            "rejected items down without lifting the chosen ones. Raise --beta, or lower the learning rate."
        )
    return found


def plot(rows: list[Row], path: Path) -> None:
    """Six panels of what was logged; the others are marked as not logged."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 10), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, left, right) in zip(figure.subplots(3, 2).flat, _PANELS, strict=True):
        shown = _lines(axes, rows, left)
        if any(name in row for row in rows for name in right):
            twin = axes.twinx()
            shown += _lines(twin, rows, right)
            twin.set_ylabel(" / ".join(name.replace("_", " ") for name in right), color=next(iter(right.values())))
        if not shown:
            axes.text(0.5, 0.5, "not logged", ha="center", va="center", color=_GREY, transform=axes.transAxes)
        elif any(axes.lines):
            axes.legend(frameon=False, fontsize=8)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("step")
        axes.spines[["top"]].set_visible(False)
    with atomic_file(path) as part:
        figure.savefig(part, format="png")


def _lines(axes: Any, rows: list[Row], colours: dict[str, str]) -> int:
    shown = 0
    for name, colour in colours.items():
        points = [(row["step"], row[name]) for row in rows if name in row]
        if points:
            axes.plot(*zip(*points, strict=True), color=colour, marker=".", label=name.replace("_", " "))
            shown += 1
    return shown
