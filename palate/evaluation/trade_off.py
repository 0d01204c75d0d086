"""Accuracy against what else matters of lists: which models is no other better than in both?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from palate.evaluation.chart import short_label
from palate.evaluation.compare import Comparison, Row
from palate.evaluation.metrics import METRICS
from palate.evaluation.tables import label_of
from palate.plots import BLUE, GREY, name_points, picture

# What accuracy is drawn against, as far as it is measured.
_BESIDE = ("diversity", "serendipity", "miscalibration", "novelty", "coverage")
_PANELS = 3
Point = tuple[float, float]


def opposite_metrics(primary: str, measured: Sequence[str]) -> list[str]:
    """The measured figures beside accuracy that are drawn against the primary one: at its cut-off, at most three.

    >>> opposite_metrics("ndcg@10", ["ndcg@10", "novelty@5", "novelty@10", "diversity@10"])
    ['diversity@10', 'novelty@10']
    """
    cut = primary.partition("@")[2]
    return [name for name in (f"{word}@{cut}" for word in _BESIDE) if name in measured and name != primary][:_PANELS]


def pareto_front(points: Mapping[str, Point], metric: str) -> list[str]:
    """Names of the points that none beats in one value without losing in the other, by the first value.

    Args:
        points: name -> (value of ``metric``, accuracy); what is not finite is left out.

    >>> pareto_front({"a": (0.5, 0.1), "b": (0.6, 0.3), "c": (0.9, 0.2), "d": (0.6, 0.2)}, "diversity@10")
    ['b', 'c']
    """
    name = metric.partition("@")[0]
    sign = 1 if name not in METRICS or METRICS[name].higher_is_better else -1
    known = {label: (sign * x, y) for label, (x, y) in points.items() if math.isfinite(x) and math.isfinite(y)}
    best = [
        label
        for label, (x, y) in known.items()
        if not any(u >= x and v >= y and (u > x or v > y) for u, v in known.values())
    ]
    return sorted(best, key=lambda label: points[label][0])


def draw(comparison: Comparison, path: Path | str) -> bool:
    """Write a PNG: a panel per metric, a dot per model with its accuracy's interval, a line along the Pareto front.

    Rows that are no models (``bounds`` among the comparison's facts) are left out.

    Returns:
        Whether there was something to draw: two models, and a metric beside accuracy.
    """
    metrics = opposite_metrics(comparison.primary, comparison.metrics)
    rows = [row for row in comparison.rows if row.label not in comparison.facts.get("bounds", ())]
    if len(rows) < 2 or not metrics:
        return False
    with picture(path, 1.0 + 4.2 * len(metrics), 3.8) as figure:
        places, named = figure.subplots(1, len(metrics), squeeze=False, sharey=True)[0], []
        for axes, metric in zip(places, metrics, strict=True):
            points = {row.label: (_mean(row, metric), _mean(row, comparison.primary)) for row in rows}
            front = pareto_front(points, metric)
            if front:
                axes.plot(*zip(*(points[label] for label in front), strict=True), "--", color=BLUE, linewidth=0.8)
            for row in rows:
                x, y = points[row.label]
                colour = BLUE if row.label in front else GREY
                one = row.estimates[comparison.primary]
                axes.plot([x, x], [one.low, one.high], color=colour, linewidth=2, alpha=0.4)
                axes.plot([x], [y], "o", color=colour, markersize=5)
            axes.margins(x=0.25)
            left, right = axes.get_xlim()
            if min(x for x, _ in points.values()) >= 0:  # a negative value would mean nothing
                axes.set_xlim(max(left, -0.02 * right), right)
            axes.set_xlabel(label_of(metric) + _direction(metric))
            axes.grid()
            named.append(
                [(short_label(label), point, BLUE if label in front else GREY) for label, point in points.items()]
            )
        places[0].set_ylabel(label_of(comparison.primary))
        facts = comparison.facts
        figure.suptitle(f"{facts['dataset']['name']}, {facts['split']} split; dashed: no model is better in both")
        for axes, labels in zip(places, named, strict=True):
            name_points(axes, labels)
    return True


def _mean(row: Row, metric: str) -> float:
    return row.estimates[metric].mean if metric in row.estimates else row.totals[metric]


def _direction(metric: str) -> str:
    return "" if METRICS[metric.partition("@")[0]].higher_is_better else " (less is better)"
