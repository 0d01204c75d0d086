"""Accuracy against diversity and other properties of lists, a dot for each model."""

from __future__ import annotations

from collections.abc import Mapping

from palate.evaluation.saved import SavedTable
from palate.evaluation.tables import label_of
from palate.evaluation.trade_off import opposite_metrics, pareto_front
from palate.report.charts import ChartView, Line, line_chart

_FRONT = 5  # the grey of the style


def trade_offs(table: SavedTable, colours: Mapping[str, int]) -> list[ChartView]:
    """A chart per metric beside the primary one; none where there are fewer than two models.

    What shows what was possible, such as an oracle, is no model and left out.
    """
    measured = table.models[0].metrics if table.models else {}
    charts = []
    for metric in opposite_metrics(table.primary, list(measured)):
        points = {}
        for model in (one for one in table.models if one.label not in table.bounds):
            x, y = (model.metrics[name].mean if name in model.metrics else None for name in (metric, table.primary))
            if x is not None and y is not None:
                points[model.label] = (x, y)
        if len(points) < 2:
            continue
        front = [points[label] for label in pareto_front(points, metric)]
        lines = [Line("no model is better in both", _FRONT, front)] if len(front) > 1 else []
        lines += [Line(label, colours.get(label, 0), [point], mark=0) for label, point in points.items()]
        title = f"{label_of(table.primary)} against {label_of(metric)}"
        charts.append(line_chart(title, lines, across=label_of(metric)))
    return charts
