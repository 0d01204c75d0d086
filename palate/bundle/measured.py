"""What was measured of a run: its validation, and its rows in evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from palate.errors import PalateError
from palate.runs.run import Run
from palate.storage.files import read_json

_FIGURES = ("mean", "low", "high")


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
    table = read_json(folder / "table.json")
    try:
        if table["dataset"]["fingerprint"] != run.info["dataset"]["fingerprint"]:
            raise PalateError(f"--table {folder} is about other data than {run.folder}", "Evaluate this run.")
        label, place = _find(run, table["runs"])
        if label is None:
            names = ", ".join(sorted(table["runs"]))
            raise PalateError(f"--table {folder} has no row of {run.folder}", f"Its models are: {names}. Evaluate it.")
        row = next(model for model in table["models"] if model["label"] == label)
        metrics = {}
        for name, one in row["metrics"].items():
            metrics[name] = {key: one[key] for key in _FIGURES if one.get(key) is not None}
            if place < len(one.get("by_seed", ())):
                metrics[name]["this_seed"] = one["by_seed"][place]
        return {
            "label": label,
            "split": table["split"],
            "protocol": table["protocol"],
            "evaluation": table["name"],
            "cases": table["cases"],
            "primary": table["primary"],
            "seeds": row["seeds"],
            "commit": table["environment"].get("commit"),
            "metrics": metrics,
        }
    except (KeyError, TypeError, AttributeError, StopIteration) as error:
        raise PalateError(f"{folder / 'table.json'} is damaged ({error})", "Evaluate again.") from None


def _find(run: Run, runs: dict[str, list[dict[str, Any]]]) -> tuple[str | None, int]:
    """The label and the place among its seeds of a run, known by its folder, or by all that made it."""
    for label, rows in runs.items():
        for place, row in enumerate(rows):
            if Path(row["folder"]).resolve() == run.folder.resolve():
                return label, place
    for label, rows in runs.items():  # a run that was moved
        for place, row in enumerate(rows):
            same = (row["model"], row["seed"], row["options"], row.get("commit"))
            mine = (run.info["model"], run.seed, run.info["options"], run.info["environment"].get("commit"))
            if same == mine and Path(row["folder"]).name == run.folder.name:
                return label, place
    return None, 0
