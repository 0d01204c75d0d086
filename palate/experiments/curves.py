"""A curve: the primary metric on validation over one setting, beside the base; as numbers and as a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from palate.data.dataset import Dataset
from palate.data.held_out import require_targets
from palate.evaluation.compare import Group, primary_metric
from palate.evaluation.groups import RunGroup
from palate.evaluation.ranks import Floats
from palate.evaluation.settings import EvaluationSettings, SlowModels
from palate.evaluation.tables import label_of
from palate.experiments.plan import slug
from palate.experiments.recipe import Curve, Recipe
from palate.experiments.search import key_of
from palate.plots import BLUE, GREY, picture
from palate.runs.run import Run
from palate.storage.files import file_digest, read_json, write_json, write_text


def save_curve(
    recipe: Recipe,
    name: str,
    points: Sequence[tuple[Any, Sequence[Run]]],
    base: Sequence[Run],
    dataset: Dataset,
    settings: EvaluationSettings,
    folder: Path,
    slow: SlowModels = lambda groups, split: {},
) -> bool:
    """Evaluate the runs on validation and write ``NAME.json``, ``NAME.csv`` and ``NAME.png``.

    Args:
        points: each value with its runs, one per seed.
        base: the base's runs with the same seeds.
        slow: returns the results of slow models; called where there is no curve yet.

    Returns:
        Whether there was anything to do: not where the files stand for these very runs.
    """
    curve = recipe.curves[name]
    runs = [[file_digest(run.folder / "run.json") for run in group] for group in [base, *(p for _, p in points)]]
    key = key_of(runs, recipe.evaluate, curve.model_dump(mode="json"))
    known = read_json(folder / f"{name}.json") if (folder / f"{name}.json").is_file() else {}
    if known.get("key") == key:
        return False
    groups = [RunGroup(_base_label(recipe.base), tuple(base))]
    groups += [RunGroup(slug(value), tuple(group)) for value, group in points]
    evaluated = settings.evaluate(groups, dataset, "valid", slow(groups, "valid"))
    metric = settings.primary or primary_metric(evaluated[0].results[0].metrics)
    seeds = [run.seed for run in base]
    reference = _figures(evaluated[0], metric)
    rows = [
        {"value": value, **_figures(group, metric), "minus_base": _paired(group, evaluated[0], metric)}
        for (value, _), group in zip(points, evaluated[1:], strict=True)
    ]
    facts = {
        "curve": name,
        "arm": curve.arm,
        "setting": curve.setting,
        "metric": metric,
        "split": "valid",
        "seeds": seeds,
        "base": {"arm": recipe.base, **reference},
        "points": rows,
        "recipe": recipe.digest,
        "key": key,
    }
    draw_curve(curve, facts, dataset.name, folder / f"{name}.png")
    write_text(folder / f"{name}.csv", _csv(facts))
    write_json(folder / f"{name}.json", facts)
    return True


def _figures(group: Group, metric: str) -> dict[str, Any]:
    """Mean over users and seeds, every seed, and the standard error over seeds (None for one seed)."""
    return _summary(group.values(metric).mean(axis=1))


def _paired(group: Group, base: Group, metric: str) -> dict[str, Any]:
    """The same for the difference to the base with the same seed, which the spread of the bases does not blur."""
    return _summary((group.values(metric) - base.values(metric)).mean(axis=1))


def _summary(by_seed: Floats) -> dict[str, Any]:
    error = float(np.std(by_seed, ddof=1) / np.sqrt(len(by_seed))) if len(by_seed) > 1 else None
    return {"mean": float(by_seed.mean()), "error": error, "by_seed": by_seed.tolist()}


def _csv(facts: dict[str, Any]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([facts["setting"], "seed", facts["metric"]])
    for row in [{"value": f"({facts['base']['arm']})", **facts["base"]}, *facts["points"]]:
        for seed, figure in zip(facts["seeds"], row["by_seed"], strict=True):
            writer.writerow([row["value"], seed, figure])
    return text.getvalue()


def places_of(values: Sequence[Any], scale: str) -> list[float]:
    """Where values stand on the axis: numbers where they are, words behind the last of them, one step apart.

    >>> places_of([1, 10, 100, "all"], "log")
    [1.0, 10.0, 100.0, 1000.0]
    >>> places_of(["a", "b"], "linear")
    [0.0, 1.0]
    """
    numbers = sorted(float(value) for value in values if _is_number(value))
    if not numbers:
        return [float(place) for place in range(len(values))]
    if scale == "log":
        step = (numbers[-1] / numbers[0]) ** (1 / (len(numbers) - 1)) if len(numbers) > 1 else 10.0
    else:
        step = (numbers[-1] - numbers[0]) / (len(numbers) - 1) if len(numbers) > 1 else 1.0
    places, last = [], numbers[-1]
    for value in values:
        if not _is_number(value):
            last = float(f"{last * step if scale == 'log' else last + step:.12g}")
        places.append(float(value) if _is_number(value) else last)
    return places


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def draw_curve(curve: Curve, facts: dict[str, Any], data: str, path: Path) -> None:
    """Write a PNG: one dot per seed, means with standard errors, the base as a line with its own band."""
    points, base, seeds = facts["points"], facts["base"], facts["seeds"]
    values = [point["value"] for point in points]
    numeric = any(_is_number(value) for value in values)
    scale = curve.scale if numeric else "linear"
    order = np.argsort(places_of(values, scale), kind="stable")
    places = np.asarray(places_of(values, scale))[order]
    points = [points[number] for number in order]
    means = np.asarray([point["mean"] for point in points])
    errors = None if len(seeds) < 2 else np.asarray([point["error"] for point in points])

    with picture(path, 7, 4.2) as figure:
        axes = figure.add_subplot()
        if curve.arm != facts["base"]["arm"]:
            axes.axhline(base["mean"], color=GREY, linestyle="--", linewidth=1.4, label=_base_label(base["arm"]))
            if base["error"] is not None:
                low, high = base["mean"] - base["error"], base["mean"] + base["error"]
                axes.axhspan(low, high, color=GREY, alpha=0.18, linewidth=0)
        axes.errorbar(
            places, means, yerr=errors, color=BLUE, marker="o", markersize=5, capsize=3, linewidth=1.6, label=curve.arm
        )
        if len(seeds) > 1:
            for number in range(len(seeds)):
                figures = [point["by_seed"][number] for point in points]
                axes.plot(places, figures, ".", color=BLUE, alpha=0.45, markersize=5)
        axes.set_xscale(scale)
        axes.set_xticks(places, [str(point["value"]) for point in points])
        axes.minorticks_off()
        if len(places) > 12:
            axes.tick_params(axis="x", rotation=45)
        axes.set_xlabel(curve.setting + (" (logarithmic)" if scale == "log" else ""))
        axes.set_ylabel(f"validation {label_of(facts['metric'])}")
        spread = f"means over {len(seeds)} seeds, bars and band: 1 standard error, dots: seeds"
        axes.set_title(
            f"{data}: {curve.arm} over {curve.setting}\n" + (spread if len(seeds) > 1 else f"seed {seeds[0]}"),
            loc="left",
        )
        axes.grid(axis="y")
        axes.legend()


def _base_label(arm: str) -> str:
    return arm if arm == "base" else f"{arm} (base)"


def check_dataset(dataset: Dataset) -> None:
    """Trials and curves need validation targets.

    Raises:
        PalateError: there are none.
    """
    require_targets(dataset, "valid")
