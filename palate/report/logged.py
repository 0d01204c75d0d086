"""What runs have written down: learning curves, the diagnostics of alignments, and what training has cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from palate.errors import PalateError
from palate.evaluation.groups import RunGroup
from palate.runs.run import Run
from palate.storage.files import read_json
from palate.storage.remote import given
from palate.storage.small_files import json_rows

Row = dict[str, float]
# What an alignment of a ranker or of a language model may have logged, in the order of the page.
DIAGNOSTICS = {
    "reward_accuracy": "Pairs whose chosen item has the higher reward",
    "reward_margin": "Reward margin",
    "chosen_drift": "Log-probability of the chosen against the reference (nats)",
    "score_scale": "Scale of scores",
    "hardness_p50": "Hardness (median)",
    "beta_mean": "Beta (mean)",
    "responsiveness": "Responsiveness",
    "noise_ratio": "Noise ratio",
    "pool_later": "Pool items that the user takes later",
    "negatives_later": "Rejected items that the user takes later",
    "gradient_later": "Share of the gradient that pushes those down",
}


def numbers(row: Any) -> Row:
    """The finite numbers of a logged row."""
    if not isinstance(row, dict):
        return {}
    return {
        name: float(value)
        for name, value in row.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def read_log(path: Path) -> list[Row]:
    """The rows of a ``metrics.jsonl``; none where there is no such file.

    Raises:
        PalateError: a line is no row; it is named.
    """
    if not path.is_file():
        return []
    return [numbers(row) for row in json_rows(path)]


def logs_of(groups: Sequence[RunGroup]) -> list[dict[str, Any]]:
    """One entry per run: where it came from, its log, its diagnostics, its cost."""
    return [_log_of(group.label, run) for group in groups for run in group.runs]


def _log_of(label: str, run: Run) -> dict[str, Any]:
    info = run.info
    rows = read_log(run.folder / "metrics.jsonl")
    best = info.get("best")
    environment = info["environment"]
    described = info.get("describe") if isinstance(info.get("describe"), dict) else {}
    return {
        "label": label,
        "folder": given(run.folder),
        "model": info["model"],
        "seed": run.seed,
        "commit": environment.get("commit"),
        "palate": environment.get("palate"),
        "metric": _metric(info),
        "objective": _objective(info),
        "went_on": bool(info.get("aligned_from") or info.get("warm_start")),
        "best_epoch": numbers(best).get("epoch"),
        "rows": rows,
        "alignment": _alignment(run),
        "parameters": numbers(described).get("parameters"),
        "coverage": numbers((described or {}).get("coverage")),
        "cost": _cost(info, rows),
    }


def _metric(info: Mapping[str, Any]) -> str | None:
    """What chose the epoch."""
    found = info.get("metric") or _within(info, "options", "settings", "trainer", "metric")
    return found if isinstance(found, str) else None


def _objective(info: Mapping[str, Any]) -> str:
    for path in (("options", "alignment", "objective"), ("options", "align", "objective"), ("options", "objective")):
        found = _within(info, *path)
        if isinstance(found, str) and found != "none":
            return found
    return "log-likelihood of answers" if info["model"] == "mllm" else "cross-entropy"


def _within(table: Any, *names: str) -> Any:
    for name in names:
        table = table.get(name) if isinstance(table, dict) else None
    return table


def _alignment(run: Run) -> dict[str, Any] | None:
    path = run.folder / "alignment.json"
    if not path.is_file():
        return None
    facts = read_json(path)
    rows = facts.get("rows") if isinstance(facts, dict) else None
    if not isinstance(rows, list):
        raise PalateError(f"{path} is damaged", "Align the run again.")
    warnings = facts.get("warnings")
    return {
        "rows": [numbers(row) for row in rows],
        "pool_held_out": numbers(facts).get("pool_held_out"),
        "warnings": [str(one) for one in warnings] if isinstance(warnings, list) else [],
    }


def _cost(info: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, float]:
    known = numbers(dict(info))
    cost: dict[str, float] = {
        name: known[name] for name in ("seconds", "epochs", "tokens", "peak_memory_mb") if name in known
    }
    peaks = [row["peak_memory_mb"] for row in rows if "peak_memory_mb" in row]
    if peaks and "peak_memory_mb" not in cost:
        cost["peak_memory_mb"] = max(peaks)
    return cost
