"""The report of an alignment of a language model: numbers, warnings and one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from palate.plots import BLUE, GREY, RED, picture, plot_columns, second_scale
from palate.runs.log import Row
from palate.runs.run import Run
from palate.storage.files import write_json
from palate.storage.small_files import json_rows

# A mean log-probability of the target's right answer that falls by more than this (nats) is worth a warning.
_FALL = 0.05
_PANELS: tuple[tuple[str, dict[str, str], dict[str, str]], ...] = (
    ("Reward accuracy and margin", {"reward_accuracy": BLUE}, {"reward_margin": RED}),
    ("Right answer against the reference (nats)", {"chosen_drift": BLUE}, {"score_scale": RED}),
    ("Hardness and beta", {"hardness_p05": GREY, "hardness_p50": BLUE, "hardness_p95": GREY}, {"beta_mean": RED}),
    ("Responsiveness and noise", {"responsiveness": BLUE}, {"noise_ratio": RED}),
    ("Rejected items that the user takes later", {"negatives_later": BLUE, "gradient_later": RED}, {}),
    ("Validation", {"AUC": BLUE, "accuracy": BLUE}, {"valid_loss": RED}),
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
    with picture(path, 12, 10) as figure:
        for axes, (title, left, right) in zip(figure.subplots(3, 2).flat, _PANELS, strict=True):
            drawn = plot_columns(axes, rows, "step", left)
            if any(name in row for row in rows for name in right):
                other = second_scale(axes)
                drawn += plot_columns(other, rows, "step", right)
                label = " / ".join(name.replace("_", " ") for name in right)
                other.set_ylabel(label, color=next(iter(right.values())))
            if not drawn:
                axes.text(0.5, 0.5, "not logged", ha="center", va="center", color=GREY, transform=axes.transAxes)
            elif any(axes.lines):
                axes.legend()
            axes.set(title=title, xlabel="step")
