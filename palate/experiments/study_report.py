"""What a search writes for people: a table of trials, a picture, and the best settings as a recipe."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from palate.experiments.tune import Study
from palate.experiments.tune_recipe import TuneRecipe
from palate.plots import BLUE, GREY, RED, picture
from palate.storage.files import write_text
from palate.storage.toml import write_tables


def save_report(study: Study, recipe: TuneRecipe, seed: int) -> None:
    """Write ``trials.csv``, ``trials.png`` and, where a trial is complete, ``best.toml`` into the study's folder."""
    write_text(study.folder / "trials.csv", trials_csv(study))
    if study.best is not None:
        write_text(study.folder / "best.toml", best_recipe(study, recipe, seed))
    plot_trials(study, study.folder / "trials.png")


def trials_csv(study: Study) -> str:
    """One row per trial, one column per parameter."""
    names = list(dict.fromkeys(name for row in study.trials for name in row["params"]))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "state", study.metric, "epoch", *names, "run", "error"])
    for row in study.trials:
        params = [row["params"].get(name) for name in names]
        writer.writerow([row["trial"], row["state"], row["value"], row["epoch"], *params, row["run"], row["error"]])
    return text.getvalue()


def best_recipe(study: Study, recipe: TuneRecipe, seed: int) -> str:
    """The best trial's settings as TOML for ``palate train --config``."""
    assert study.best is not None
    best = study.best
    settings: dict[str, Any] = dict(recipe.settings_of(best["params"]))
    train: dict[str, Any] = {
        "model": recipe.model,
        "modalities": recipe.modalities,
        "missing": recipe.missing if recipe.neural else None,
        "neighbours": "none" if recipe.neural else None,  # as in every trial
        "store": recipe.store or None,
        "seed": seed,
    }
    if recipe.neural:  # the table [train.objective] holds the name as well as the settings
        train["objective"] = {"name": recipe.objective, **settings.pop("objective", {})}
    train |= settings
    at = f", epoch {best['epoch']}" if best["epoch"] is not None else ""
    return (
        f"# {study.metric} {best['value']:.6f} on validation: trial {best['trial']} of {len(study.trials)}{at}.\n"
        f"# palate train DATASET --config best.toml --out RUN\n\n{write_tables({'train': train})}"
    )


def plot_trials(study: Study, path: Path) -> None:
    """Trials in their order with the best so far, and the metric against each parameter, as a PNG."""
    complete = [row for row in study.trials if row["state"] == "complete"]
    names = list(dict.fromkeys(name for row in complete for name in row["params"]))
    columns = min(3, 1 + len(names))
    lines = -(-(1 + len(names)) // columns)
    with picture(path, 4.6 * columns, 3.4 * lines) as figure:
        axes = figure.subplots(lines, columns, squeeze=False).ravel()
        _plot_history(axes[0], study, complete)
        for axis, name in zip(axes[1:], names, strict=False):
            _plot_parameter(axis, name, complete, study)
        for axis in axes[1 + len(names) :]:
            axis.set_visible(False)


def _plot_history(axis: Any, study: Study, complete: list[dict[str, Any]]) -> None:
    best, steps = float("-inf"), []
    for row in complete:
        best = max(best, row["value"])
        steps.append(best)
    places = [row["trial"] for row in complete]
    axis.scatter(places, [row["value"] for row in complete], color=GREY, s=22, label="complete")
    if steps:
        axis.step(places, steps, where="post", color=RED, label="best so far")
    for state, marker in (("pruned", "v"), ("failed", "x")):
        ended = [row["trial"] for row in study.trials if row["state"] == state]
        if ended:
            axis.plot(
                ended, [0.02] * len(ended), marker, color=BLUE, ms=5, label=state, transform=axis.get_xaxis_transform()
            )
    axis.set(xlabel="trial", ylabel=f"validation {study.metric}")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.legend()


def _plot_parameter(axis: Any, name: str, complete: list[dict[str, Any]], study: Study) -> None:
    rows = [row for row in complete if name in row["params"]]
    params = [row["params"][name] for row in rows]
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in params)
    values = params if numbers else [str(value) for value in params]
    axis.scatter(values, [row["value"] for row in rows], color=GREY, s=22)
    if study.best is not None:
        chosen = study.best["params"][name]
        axis.scatter([chosen if numbers else str(chosen)], [study.best["value"]], color=RED, s=40, zorder=3)
    if numbers and params and min(params) > 0 and max(params) / min(params) >= 8:
        axis.set_xscale("log")
    elif not numbers:
        axis.margins(x=0.3)
    axis.set(xlabel=name, ylabel=study.metric)
