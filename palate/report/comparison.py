"""The comparison: a headline, every model's figure with its interval, slices, all metrics, what a sceptic asks."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from palate.evaluation.saved import SavedDifference, SavedFigure, SavedRow, SavedTable
from palate.evaluation.tables import label_of
from palate.report.charts import colour_class
from palate.report.markup import Html, join, outside, tag
from palate.report.numbers import count, figure, interval
from palate.report.tables import Cell, Row, table

# With one target a case these say the same twice.
_TWINS = {"hitrate": "recall", "map": "mrr"}
_CLEAR = 0.05


def section(one: SavedTable, colours: Mapping[str, int], heading: str) -> Html:
    """Everything about one table."""
    primary = label_of(one.primary)
    users = f"{one.cases:,} {'users' if one.cases != 1 else 'user'}"
    if one.users is not None:
        users = f"{one.users.drawn:,} of {one.users.of:,} users, drawn with seed {one.users.seed}"
    return join(
        tag("h2", heading),
        tag("p", f"{one.split.capitalize()} split, protocol {one.name}, {users}.", class_="quiet"),
        tag("p", headline(one), class_="lead"),
        _forest(one, colours),
        _main(one),
        _slices(one) if one.slices else None,
        _everything(one),
        tag(
            "details",
            tag("summary", "How to read this, and where it comes from"),
            tag("ul", [tag("li", note) for note in one.notes]),
        )
        if one.notes
        else None,
        tag("p", f"Intervals are 95%. {primary} decides.", class_="quiet"),
    )


def headline(one: SavedTable) -> Html:
    """The result in one sentence that claims no more than the table does."""
    primary = label_of(one.primary)
    known = [model for model in one.contenders if model.metrics[one.primary].mean is not None]
    if not known:
        return join("No figure is known.")
    best = max(known, key=_by(one.primary))
    mean = best.metrics[one.primary]
    first = join(tag("strong", outside(best.label)), f" has the highest {primary}: {figure(mean.mean)}")
    if len(one.contenders) == 1:
        return join(outside(best.label), f": {primary} {figure(mean.mean)} {interval(mean.low, mean.high)}.")
    if best.label == one.base:
        others = [model for model in known if model is not best]
        runner = max(others, key=_by(one.primary)) if others else None
        difference = None if runner is None else runner.differences.get(one.primary)
        if runner is None or difference is None:
            return join(first, ".")
        return join(first, "; ", outside(runner.label), f" comes next, {_distance(difference)}.")
    difference = best.differences.get(one.primary)
    if difference is None:
        return join(first, ".")
    return join(first, "; compared with ", outside(one.base), f": {_distance(difference)}.")


def _by(metric: str) -> Callable[[SavedRow], float]:
    return lambda model: model.metrics[metric].mean or 0.0


def _distance(difference: SavedDifference) -> str:
    p = difference.p_holm if difference.p_holm is not None else difference.p
    told = f"{difference.mean or 0:+.4f} {interval(difference.low, difference.high, signed=True)}".strip()
    return told if p is None else f"{told}, p = {p:.3f}" + ("" if p < _CLEAR else ", which may be chance")


def _forest(one: SavedTable, colours: Mapping[str, int]) -> Html:
    """The primary metric of every model as a dot on its interval; small dots are seeds."""
    figures = [model.metrics[one.primary] for model in one.models]
    known = [
        value for each in figures for value in (each.mean, each.low, each.high, *each.by_seed) if value is not None
    ]
    low, high = min(known, default=0.0), max(known, default=1.0)
    low = 0.0 if 0 <= low < 0.5 * high else low
    low -= 0.04 * (high - low) if low else 0.0
    span = (high - low) * 1.04 or 1.0

    def place(value: float | None) -> str:
        return f"{100 * max(0.0, (value or 0.0) - low) / span:.2f}%"

    rows = []
    for model, each in zip(one.models, figures, strict=True):
        marks: list[Html] = []
        if each.low is not None and each.high is not None:
            width = f"{100 * (each.high - each.low) / span:.2f}%"
            marks.append(tag("span", class_="span", style=f"left:{place(each.low)};width:{width}"))
        if len(each.by_seed) > 1:
            marks += [tag("span", class_="seed", style=f"left:{place(value)}") for value in each.by_seed]
        if each.mean is not None:
            marks.append(tag("span", class_="dot", style=f"left:{place(each.mean)}"))
        colour = colour_class(colours.get(model.label, 0))
        rows.append(
            tag(
                "li",
                tag("span", outside(model.label), class_="name"),
                tag("span", marks, class_=f"track {colour}", aria_hidden="true"),
                tag("span", figure(each.mean), tag("small", f" {interval(each.low, each.high)}"), class_="value"),
            )
        )
    ends = tag(
        "p", tag("span", figure(low)), tag("span", label_of(one.primary)), tag("span", figure(high)), class_="ends"
    )
    return tag("div", tag("ul", rows, class_="forest"), ends, class_="card")


def _main(one: SavedTable) -> Html:
    shown = shown_metrics(one)
    compared = len(one.models) > 1
    headers = ["model", "seeds", f"{label_of(one.primary)} [95%]"]
    headers += [f"minus {one.base} [95%]", "p\u00a0(Holm)"] if compared else []
    headers += [label_of(name) for name in shown]
    rows = []
    for model in one.models:
        is_base = compared and model.label == one.base
        name = join(outside(model.label), tag("span", "base", class_="chip") if is_base else None)
        cells = [
            Cell(name, model.label),
            Cell(count(len(model.seeds)), len(model.seeds)),
            _estimate(model.metrics[one.primary]),
        ]
        cells += _difference(model.differences.get(one.primary)) if compared else []
        for metric in shown:
            mean = model.metrics[metric].mean if metric in model.metrics else None
            cells.append(Cell(figure(mean), mean))
        rows.append(Row(cells, "base" if is_base else None))
    return table("All users", headers, rows)


def shown_metrics(one: SavedTable) -> list[str]:
    """The metrics beside the primary one: those at its cut-off or without any, none that says the same as another."""
    cut = one.primary.partition("@")[2]
    first = one.models[0].metrics
    shown: list[str] = []
    for name in first:
        word, _, k = name.partition("@")
        twin = f"{_TWINS[word]}@{k}" if word in _TWINS else ""
        same = twin in first and all(
            name in model.metrics and twin in model.metrics and model.metrics[name] == model.metrics[twin]
            for model in one.models
        )
        if name != one.primary and k in ("", cut) and not (same and twin in (one.primary, *shown)):
            shown.append(name)
    return shown


def _estimate(each: SavedFigure) -> Cell:
    return Cell(join(figure(each.mean), tag("small", f" {interval(each.low, each.high)}")), each.mean)


def _difference(one: SavedDifference | None) -> list[Cell]:
    if one is None or one.mean is None:
        return [Cell(""), Cell("")]
    clear = one.p_holm is not None and one.p_holm < _CLEAR
    word = ("better" if one.mean > 0 else "worse") if clear else None
    sign = {"better": "▲ ", "worse": "▼ "}.get(word or "", "")
    text = join(
        tag("span", sign, aria_hidden="true") if sign else None,
        f"{one.mean:+.4f}",
        tag("small", f" {interval(one.low, one.high, signed=True)}"),
        tag("span", f" ({word})", class_="unseen") if word else None,
    )
    return [Cell(text, one.mean, word), Cell("-" if one.p_holm is None else f"{one.p_holm:.3f}", one.p_holm)]


def _slices(one: SavedTable) -> Html:
    rows = []
    for name, part in one.slices.items():
        by_label = {model.label: model.metrics[one.primary] for model in part.models}
        cells = [Cell(name, name), Cell(count(part.users), part.users)]
        cells += [_estimate(by_label.get(label, SavedFigure())) for label in one.labels]
        rows.append(Row(cells))
    title = f"{label_of(one.primary)} by slice: looking closer; p-values are for the whole"
    return table(title, ["slice", "users", *one.labels], rows)


def _everything(one: SavedTable) -> Html:
    """Every metric at every cut-off."""
    names = sorted(dict.fromkeys(name for model in one.models for name in model.metrics), key=_order)
    rows = [
        Row([Cell(label_of(name), name), *(_estimate(model.metrics.get(name, SavedFigure())) for model in one.models)])
        for name in names
    ]
    caption = "Every metric at every cut-off"
    return tag("details", tag("summary", caption), table(caption, ["metric", *one.labels], rows))


def _order(name: str) -> tuple[str, int]:
    word, _, k = name.partition("@")
    return word, int(k) if re.fullmatch(r"[0-9]{1,9}", k) else 0
