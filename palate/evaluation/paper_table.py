"""A comparison's table for a paper or a spreadsheet: LaTeX with booktabs, or CSV."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import polars as pl

from palate.console import plain
from palate.errors import PalateError, suggest
from palate.evaluation.metrics import METRICS
from palate.evaluation.saved import SavedRow, SavedTable
from palate.evaluation.tables import label_of
from palate.rankers.text_cells import formulas_as_text

# Differences whose p-value, adjusted over the family (Holm), is below this have a mark.
SIGNIFICANT = 0.05
# What --format may be -> the file beside table.md; "table" is drawn for a terminal, "markdown" is table.md itself.
FORMATS = {"table": None, "markdown": None, "latex": "table.tex", "csv": "table.csv"}
_BETTER, _WORSE = r"\dagger", r"\ddagger"
_TWINS = {"hitrate": "recall", "map": "mrr"}
_ESCAPED = {
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}


def check_format(name: str, json_: bool) -> None:
    """Refuse a form of table that there is not, or two at a time."""
    if name not in FORMATS:
        raise PalateError(f"there is no table as '{name}'", suggest(name, FORMATS))
    if json_ and name != "table":
        raise PalateError(f"--json and --format {name} are two forms of one table", "Leave one of them out.")


def as_format(name: str, table: SavedTable) -> str:
    """The table as ``latex`` or ``csv``."""
    forms: dict[str, Callable[[SavedTable], str]] = {"latex": latex_table, "csv": csv_table}
    return forms[name](table)


def escape_latex(text: str) -> str:
    """Text from outside as LaTeX prints it: names of models and data are no commands.

    >>> print(escape_latex(r"knn_5% \\input{x}"))
    knn\\_5\\% \\textbackslash{}input\\{x\\}
    """
    return "".join(_ESCAPED.get(char, char) for char in plain(text))


def latex_table(table: SavedTable) -> str:
    """A ``table`` environment: the primary metric with its interval, then the others at its cut-off.

    The best figure of a column is bold. A dagger is a difference from the base that is significant: its p-value over
    users, paired and adjusted over the family of rows (Holm), is below 0.05; a double dagger is one to the worse.
    """
    names = _shown(table)
    several = any(len(row.seeds) > 1 for row in table.models)
    headers = ["Model", *(["Seeds"] if several else []), escape_latex(label_of(table.primary)), r"95\% interval"]
    headers += [escape_latex(label_of(name)) for name in names[1:]]
    best = {name: _best(table, name) for name in names}
    lines, marks = [], set()
    for row in table.models:
        cells = [escape_latex(row.label), *([str(len(row.seeds))] if several else [])]
        for name in names:
            cell, mark = _cell(table, row, name, best[name])
            cells.append(cell)
            marks |= {mark} if mark else set()
            if name == table.primary:
                cells.append(_interval(row, name))
        lines.append(f"    {' & '.join(cells)} \\\\")
    about = escape_latex(f"{table.dataset.name}, {table.split} split, {table.name}, {table.cases:,} users")
    caption = f"{about}. The best figures are bold.{_legend(table, marks)}"
    label = re.sub(r"[^a-z0-9]+", "-", f"{table.dataset.name}-{table.split}".lower()).strip("-")
    data = f"data {table.dataset.fingerprint}, commit {(table.environment or {}).get('commit') or 'unknown'}"
    return "\n".join(
        [
            rf"% In the preamble: \usepackage{{booktabs}}. Made by palate: {escape_latex(data)}.",
            r"\begin{table}[t]",
            r"  \centering",
            rf"  \caption{{{caption}}}",
            rf"  \label{{tab:{label}}}",
            rf"  \begin{{tabular}}{{l{'r' * (len(headers) - 1)}}}",
            r"    \toprule",
            f"    {' & '.join(headers)} \\\\",
            r"    \midrule",
            *lines,
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def csv_table(table: SavedTable) -> str:
    """One row per model, all metrics: mean, interval, difference from the base with its interval and p-value."""
    rows = []
    for row in table.models:
        cells: dict[str, Any] = {"model": plain(row.label), "seeds": len(row.seeds)}
        for name, figure in row.metrics.items():
            difference = row.differences.get(name)
            cells |= {name: figure.mean, f"{name} low": figure.low, f"{name} high": figure.high}
            cells |= {
                f"{name} {word}": None if difference is None else getattr(difference, key)
                for word, key in (
                    ("difference", "mean"),
                    ("difference low", "low"),
                    ("difference high", "high"),
                    ("p", "p_holm"),
                )
            }
        rows.append(cells)
    return formulas_as_text(pl.DataFrame(rows, infer_schema_length=None)).write_csv()


def _shown(table: SavedTable) -> list[str]:
    """The primary metric, then those at its cut-off or without one; columns that repeat another are left out."""
    cut = table.primary.partition("@")[2]
    shown = [table.primary]
    for name in table.models[0].metrics:
        word, _, k = name.partition("@")
        twin = f"{_TWINS[word]}@{k}" if word in _TWINS else ""
        repeats = twin in shown and all(row.metrics[name].mean == row.metrics[twin].mean for row in table.models)
        if name != table.primary and k in ("", cut) and not repeats:
            shown.append(name)
    return shown


def _higher_is_better(name: str) -> bool:
    word = name.partition("@")[0]
    return METRICS[word].higher_is_better if word in METRICS else True


def _best(table: SavedTable, name: str) -> str | None:
    """The best figure as it is printed: what looks the same is as good."""
    values = [row.metrics[name].mean for row in table.models if name in row.metrics]
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return None
    return _number(max(known) if _higher_is_better(name) else min(known))


def _cell(table: SavedTable, row: SavedRow, name: str, best: str | None) -> tuple[str, str]:
    """A figure, bold if it is the best, and the mark behind it."""
    figure = row.metrics.get(name)
    text = _number(None if figure is None else figure.mean)
    difference = row.differences.get(name)
    mark = ""
    if difference is not None and difference.p_holm is not None and difference.p_holm < SIGNIFICANT:
        mark = _BETTER if ((difference.mean or 0.0) > 0) == _higher_is_better(name) else _WORSE
    bold = rf"\textbf{{{text}}}" if text == best else text
    return (rf"{bold}\rlap{{$^{{{mark}}}$}}" if mark else bold), mark


def _interval(row: SavedRow, name: str) -> str:
    figure = row.metrics[name]
    return "--" if figure.low is None or figure.high is None else f"[{figure.low:.4f}, {figure.high:.4f}]"


def _legend(table: SavedTable, marks: set[str]) -> str:
    words = [f"${mark}$: {word}" for mark, word in ((_BETTER, "better"), (_WORSE, "worse")) if mark in marks]
    if not words:
        return ""
    against = f"than {escape_latex(table.base)}, paired over users, Holm-adjusted $p < {SIGNIFICANT:g}$"
    return f" {', '.join(words)} {against}."


def _number(value: float | None) -> str:
    if value is None:
        return "--"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"
