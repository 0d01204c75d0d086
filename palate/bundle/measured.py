"""What was measured of a run: its validation, and its rows in evaluations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from palate.errors import PalateError
from palate.evaluation.saved import SavedRun, load_table
from palate.runs.run import Run
from palate.storage.remote import recorded


def validation_of(run: Run) -> dict[str, Any] | None:
    """The metrics of the run's best epoch, or None where it was not trained by epochs."""
    best = run.info.get("best")
    if not isinstance(best, dict):
        return None
    metrics = {name: value for name, value in best.items() if "@" in name and isinstance(value, int | float)}
    return {"epoch": best.get("epoch"), "metrics": metrics} if metrics else None


def tables_of(run: Run, folders: Sequence[Path]) -> list[dict[str, Any]]:
    """The run's row of each evaluation: the means over all of its seeds, and those of this seed.

    Args:
        folders: of ``palate evaluate`` or ``palate compare``, with a ``table.json``.

    Raises:
        PalateError: no table, one of other data, or one in which this run does not occur.
    """
    return [_table_of(run, folder) for folder in folders]


def _table_of(run: Run, folder: Path) -> dict[str, Any]:
    if not (folder / "table.json").is_file():
        raise PalateError(f"--table {folder} holds no table.json", "Give a folder made by `palate evaluate --out`.")
    table = load_table(folder)
    if table.dataset.fingerprint != run.info["dataset"]["fingerprint"]:
        raise PalateError(f"--table {folder} is about other data than {run.folder}", "Evaluate this run.")
    label, place = _find(run, table.runs)
    row = next((model for model in table.models if model.label == label), None)
    if row is None:
        names = ", ".join(sorted(table.runs))
        raise PalateError(f"--table {folder} has no row of {run.folder}", f"Its models are: {names}. Evaluate it.")
    metrics = {}
    for name, one in row.metrics.items():
        figures = {"mean": one.mean, "low": one.low, "high": one.high}
        metrics[name] = {key: value for key, value in figures.items() if value is not None}
        if place < len(one.by_seed):
            metrics[name]["this_seed"] = one.by_seed[place]
    return {
        "label": label,
        "split": table.split,
        "protocol": table.protocol,
        "evaluation": table.name,
        "cases": table.cases,
        "primary": table.primary,
        "seeds": row.seeds,
        "commit": (table.environment or {}).get("commit"),
        "metrics": metrics,
    }


def _find(run: Run, runs: Mapping[str, Sequence[SavedRun | None]]) -> tuple[str | None, int]:
    """The label and the place among its seeds of a run, known by its folder, or by all that made it."""
    rows = [(label, place, row) for label, group in runs.items() for place, row in enumerate(group) if row is not None]
    for label, place, row in rows:
        if recorded(row.folder) == recorded(run.folder):
            row.check_same(run)
            return label, place
    mine = (run.info["model"], run.seed, run.info["options"], run.info["environment"].get("commit"))
    for label, place, row in rows:  # a run that was moved
        same = (row.model, row.seed, row.options, row.commit) == mine
        if same and Path(row.folder).name == run.folder.name:
            return label, place
    return None, 0
