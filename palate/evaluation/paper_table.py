"""A comparison's table for a paper or a spreadsheet: LaTeX with booktabs, or CSV."""

from __future__ import annotations

import re
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
# What a label may hold: nothing that TeX or a package reads as a command.
_LABEL = re.compile(r"[A-Za-z0-9:._-]+")
_BETTER, _WORSE = r"\dagger", r"\ddagger"
_ESCAPED = {
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}


def check_format(name: str, json_: bool, caption: str | None = None, label: str | None = None) -> None:
    """Refuse a form of table that there is not, or two at a time, and what LaTeX could not print.

    Args:
        caption, label: of a LaTeX table; other forms have none.
    """
    if name not in FORMATS:
        raise PalateError(f"there is no table as '{name}'", suggest(name, FORMATS))
    if json_ and name != "table":
        raise PalateError(f"--json and --format {name} are two forms of one table", "Leave one of them out.")
    for option, value in (("--caption", caption), ("--label", label)):
        if value is not None and name != "latex":
            raise PalateError(f"{option} is of a LaTeX table, and --format is {name}", "Add --format latex.")
        if value is not None and not value.strip():
            raise PalateError(f"{option} is empty", "Give it a value, or leave it out.")
    if label is not None and not _LABEL.fullmatch(label):
        raise PalateError(
            f"--label {plain(label)}: a LaTeX label has letters, digits and : . _ - here", "For example tab:beauty."
        )


def as_format(name: str, table: SavedTable, caption: str | None = None, label: str | None = None) -> str:
    """The table as ``latex``, with a caption and a label of one's own, or as ``csv``."""
    return latex_table(table, caption, label) if name == "latex" else csv_table(table)


def escape_latex(text: str) -> str:
    """Text from outside as LaTeX prints it: names of models and data are no commands.

    >>> print(escape_latex(r"knn_5% \\input{x}"))
    knn\\_5\\% \\textbackslash{}input\\{x\\}
    """
    return "".join(_ESCAPED.get(char, char) for char in plain(text))


def latex_table(table: SavedTable, caption: str | None = None, label: str | None = None) -> str:
    """A ``table`` environment: the primary metric with its interval, then the others at its cut-off.

    The best figure of a column is bold. A dagger is a difference from the base that is significant: its p-value (paired
    bootstrap over users and seeds), adjusted over the family of rows (Holm), is below 0.05; a double dagger is one to
    the worse.

    Args:
        caption: plain text in place of what was measured; what bold and daggers mean follows it in any case.
        label: in place of ``tab:DATASET-SPLIT``; checked by :func:`check_format`.
    """
    names = table.shown_metrics()
    several = any(len(row.seeds) > 1 for row in table.models)
    headers = ["Model", *(["Seeds"] if several else []), escape_latex(label_of(table.primary)), r"95\% interval"]
    headers += [escape_latex(label_of(name)) for name in names[1:]]
    best = {name: _best(table, name) for name in names}
    lines, marks = [], set()
    for row in table.models:
        cells = [_first_cell(row.label), *([str(len(row.seeds))] if several else [])]
        for name in names:
            cell, mark = _cell(table, row, name, best[name])
            cells.append(cell)
            marks |= {mark} if mark else set()
            if name == table.primary:
                cells.append(_interval(row, name))
        lines.append(f"    {' & '.join(cells)} \\\\")
    about = escape_latex((caption or table.title).strip().removesuffix("."))
    label = label or "tab:" + re.sub(r"[^a-z0-9]+", "-", f"{table.dataset.name}-{table.split}".lower()).strip("-")
    data = (
        f"data {table.dataset.fingerprint or 'unknown'}, commit {(table.environment or {}).get('commit') or 'unknown'}"
    )
    return "\n".join(
        [
            rf"% In the preamble: \usepackage{{booktabs}}. Made by palate: {escape_latex(data)}.",
            r"\begin{table}[t]",
            r"  \centering",
            rf"  \caption{{{about}. The best figures are bold.{_legend(table, marks)}}}",
            rf"  \label{{{label}}}",
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


def _first_cell(label: str) -> str:
    """A label that TeX cannot take for an option of the command that ended the line before: ``\\[...]`` or ``\\*``."""
    return ("{}" if label[:1] in ("[", "*") else "") + escape_latex(label)


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
    """What the daggers mean, by which test; nothing where nothing was tested."""
    differences = (row.differences.get(table.primary) for row in table.models)
    if not marks and all(one is None or one.p_holm is None for one in differences):
        return ""
    test = f"paired bootstrap over users and seeds, Holm-adjusted $p < {SIGNIFICANT:g}$"
    words = [f"${mark}$: {word}" for mark, word in ((_BETTER, "better"), (_WORSE, "worse")) if mark in marks]
    if not words:
        return f" No difference from {escape_latex(table.base)} is significant ({test})."
    return f" {', '.join(words)} than {escape_latex(table.base)} ({test})."


def _number(value: float | None) -> str:
    if value is None:
        return "--"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"
