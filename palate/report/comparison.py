"""The comparison: a headline, every model's figure with its interval, slices, all metrics, what a sceptic asks."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from palate.evaluation.saved import SavedDifference, SavedFigure, SavedRow, SavedTable
from palate.evaluation.tables import label_of
from palate.report.numbers import count, figure, interval
from palate.report.render import render
from palate.report.tables import Cell, TableView
from palate.report.trade_offs import trade_offs

# With one target per case these are the same metric twice.
_TWINS = {"hitrate": "recall", "map": "mrr"}
_CLEAR = 0.05
# Columns of figures with intervals that a page of ordinary width holds.
_COLUMNS = 7


def section(table: SavedTable, colours: Mapping[str, int], heading: str) -> Markup:
    """Everything about one table."""
    return render(
        "comparison.html.j2",
        heading=heading,
        table=table,
        primary=label_of(table.primary),
        headline=headline(table),
        forest=_forest(table, colours),
        tables=[_main(table), *(_slices(table) if table.slices else [])],
        everything=_everything(table),
        trade_offs=trade_offs(table, colours),
        labels={label: colours.get(label, 0) for label in table.labels},
    )


@dataclass(frozen=True)
class Headline:
    """The result in one sentence that claims no more than the table does.

    Attributes:
        best: label of the model with the highest mean of the primary metric.
        interval: of the only model, which has no other beside it.
        next_best: label of the model that comes after the base, where the base is best.
        difference: of the next best from the base, or else of the best from the base; None: not known.
    """

    best: str
    mean: float | None
    interval: str | None = None
    next_best: str | None = None
    difference: str | None = None


def headline(table: SavedTable) -> Headline | None:
    """What the first sentence states; None where no figure is known."""
    known = [model for model in table.contenders if model.metrics[table.primary].mean is not None]
    if not known:
        return None
    best = max(known, key=_by(table.primary))
    mean = best.metrics[table.primary]
    if len(table.contenders) == 1:
        return Headline(best.label, mean.mean, interval=interval(mean.low, mean.high))
    others = [model for model in known if model is not best]
    if best.label != table.base:
        compared, next_best = best, None
    elif others:
        compared = max(others, key=_by(table.primary))
        next_best = compared.label
    else:
        return Headline(best.label, mean.mean)
    difference = compared.differences.get(table.primary)
    return Headline(best.label, mean.mean, None, next_best, None if difference is None else _distance(difference))


def _by(metric: str) -> Callable[[SavedRow], float]:
    return lambda model: model.metrics[metric].mean or 0.0


def _distance(difference: SavedDifference) -> str:
    p = difference.p_holm if difference.p_holm is not None else difference.p
    text = f"{difference.mean or 0:+.4f} {interval(difference.low, difference.high, signed=True)}".strip()
    return text if p is None else f"{text}, p = {p:.3f}" + ("" if p < _CLEAR else ", which may be chance")


@dataclass(frozen=True)
class ForestRow:
    """A model's primary metric on a common scale, places and widths in per cent of it; empty or None: not drawn."""

    label: str
    colour: int
    mean: float | None
    interval: str
    left: float
    width: float | None
    seeds: list[float]
    dot: float | None


@dataclass(frozen=True)
class Forest:
    """The primary metric of every model as a dot on its interval; small dots are seeds."""

    low: float
    high: float
    rows: list[ForestRow]


def _forest(table: SavedTable, colours: Mapping[str, int]) -> Forest:
    figures = [model.metrics[table.primary] for model in table.models]
    known = [
        value for each in figures for value in (each.mean, each.low, each.high, *each.by_seed) if value is not None
    ]
    low, high = min(known, default=0.0), max(known, default=1.0)
    low = 0.0 if 0 <= low < 0.5 * high else low
    low -= 0.04 * (high - low) if low else 0.0
    span = (high - low) * 1.04 or 1.0

    def place(value: float) -> float:
        return 100 * max(0.0, value - low) / span

    rows = [
        ForestRow(
            model.label,
            colours.get(model.label, 0),
            each.mean,
            interval(each.low, each.high),
            left=place(each.low or 0.0),
            width=None if each.low is None or each.high is None else 100 * (each.high - each.low) / span,
            seeds=[place(value) for value in each.by_seed] if len(each.by_seed) > 1 else [],
            dot=None if each.mean is None else place(each.mean),
        )
        for model, each in zip(table.models, figures, strict=True)
    ]
    return Forest(low, high, rows)


def _main(table: SavedTable) -> TableView:
    shown = shown_metrics(table)
    compared = len(table.models) > 1
    headers = ["model", "seeds", f"{label_of(table.primary)} [95%]"]
    headers += [f"minus {table.base} [95%]", "p\u00a0(Holm)"] if compared else []
    headers += [label_of(name) for name in shown]
    rows = []
    for model in table.models:
        cells = [
            Cell(model.label, model.label, "bdi", chip="base" if compared and model.label == table.base else ""),
            Cell(count(len(model.seeds)), len(model.seeds)),
            _estimate(model.metrics[table.primary]),
        ]
        cells += _difference(model.differences.get(table.primary)) if compared else []
        for metric in shown:
            mean = model.metrics[metric].mean if metric in model.metrics else None
            cells.append(Cell(figure(mean), mean))
        rows.append(cells)
    return TableView("All users", headers, rows)


def shown_metrics(table: SavedTable) -> list[str]:
    """The metrics beside the primary one: those at its cut-off or without any, none that equals another."""
    cut = table.primary.partition("@")[2]
    first = table.models[0].metrics
    shown: list[str] = []
    for name in first:
        word, _, k = name.partition("@")
        twin = f"{_TWINS[word]}@{k}" if word in _TWINS else ""
        same = twin in first and all(
            name in model.metrics and twin in model.metrics and model.metrics[name] == model.metrics[twin]
            for model in table.models
        )
        if name != table.primary and k in ("", cut) and not (same and twin in (table.primary, *shown)):
            shown.append(name)
    return shown


def _estimate(each: SavedFigure) -> Cell:
    return Cell(figure(each.mean), each.mean, note=interval(each.low, each.high))


def _difference(one: SavedDifference | None) -> list[Cell]:
    if one is None or one.mean is None:
        return [Cell(""), Cell("")]
    clear = one.p_holm is not None and one.p_holm < _CLEAR
    note = interval(one.low, one.high, signed=True)
    return [
        Cell(
            f"{one.mean:+.4f}",
            one.mean,
            note=note,
            verdict=("better" if one.mean > 0 else "worse") if clear else None,
        ),
        Cell("-" if one.p_holm is None else f"{one.p_holm:.3f}", one.p_holm),
    ]


def _slices(table: SavedTable) -> list[TableView]:
    title = f"{label_of(table.primary)} by slice: looking closer; p-values are for the whole"
    views = []
    for words, labels in _side_by_side(table.labels):
        rows = []
        for name, part in table.slices.items():
            by_label = {model.label: model.metrics[table.primary] for model in part.models}
            cells = [Cell(name, name), Cell(count(part.users), part.users)]
            rows.append([*cells, *(_estimate(by_label.get(label, SavedFigure())) for label in labels)])
        views.append(TableView(f"{title}{words}", ["slice", "users", *labels], rows))
    return views


def _everything(table: SavedTable) -> list[TableView]:
    names = sorted(dict.fromkeys(name for model in table.models for name in model.metrics), key=_order)
    by_label = {model.label: model.metrics for model in table.models}
    views = []
    for words, labels in _side_by_side(table.labels):
        rows = [
            [Cell(label_of(name), name), *(_estimate(by_label[label].get(name, SavedFigure())) for label in labels)]
            for name in names
        ]
        views.append(TableView(f"Every metric at every cut-off{words}", ["metric", *labels], rows))
    return views


def _side_by_side(labels: Sequence[str]) -> list[tuple[str, Sequence[str]]]:
    """Models in groups as equal as can be whose columns fit beside each other, and which they are, for the title."""
    groups = -(-len(labels) // _COLUMNS)
    size = -(-len(labels) // groups)
    parts = [(start, labels[start : start + size]) for start in range(0, len(labels), size)]
    if groups == 1:
        return [("", labels)]
    return [(f" (models {at + 1} to {at + len(part)} of {len(labels)})", part) for at, part in parts]


def _order(name: str) -> tuple[str, int]:
    word, _, k = name.partition("@")
    return word, int(k) if re.fullmatch(r"[0-9]{1,9}", k) else 0
