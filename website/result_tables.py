"""Writes the tables of figures in README.md, docs/results.md and docs/experiments.md: ``make tables``.

What was measured is in ``docs/results/NAME.json``, as ``palate evaluate`` and ``palate compare`` write it with
``--publish``. What a table shows of that is in ``docs/results/tables.toml``, by the name of the table. A page has the
table between two comments::

    <!-- table: NAME -->

    | ... |

    <!-- end -->

A table's ``columns`` and ``rows`` both say which figure a cell shows: a cell has the keys of the table, of its column
and of its row (:class:`Cell`), and the later ones win. So rows may be models and columns metrics of one result, or
columns data sets and rows models of several.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from palate.config import Config
from palate.errors import PalateError, suggest
from palate.evaluation.saved import SavedRow, SavedSlice, SavedTable, load_table
from palate.storage.files import write_text
from palate.storage.toml import read_toml

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
TABLES = RESULTS / "tables.toml"
PAGES = [ROOT / "README.md", ROOT / "docs" / "results.md", ROOT / "docs" / "experiments.md"]
_WHERE = TABLES.relative_to(ROOT)
_BETWEEN = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.S)


class Cell(Config):
    """Which figure a cell shows, and how.

    Attributes:
        result: a file of ``docs/results`` without its ending.
        model: the label of a row in it.
        instead: models that have another label in this column's result.
        metric: the result's primary metric, if it is not given.
        slice: the users of a slice only.
        show: a ``figure`` with its interval, its ``mean`` alone, that of one ``seed``, those of all (``by-seed``); the
            ``difference`` from the base with its interval, its ``p`` (Holm), the smallest true difference that would
            have been found (``detectable``); or how many ``seeds`` there are.
        digits: places after the point; p-values have three.
        bold: of figures and differences.
        label: the first cell of a row, or the heading of a column, as Markdown; ``{users}`` is the size of the slice.
    """

    result: str = ""
    model: str = ""
    instead: dict[str, str] = Field(default_factory=dict)
    metric: str | None = None
    slice: str | None = None
    show: Literal["figure", "mean", "seed", "by-seed", "difference", "p", "detectable", "seeds"] = "figure"
    seed: int = 0
    digits: int = 4
    bold: bool = False
    label: str = ""


@cache
def result(name: str) -> SavedTable:
    path = RESULTS / f"{name}.json"
    if not path.is_file():
        raise PalateError(
            f"{_WHERE} names no result: '{name}'", suggest(name, [one.stem for one in RESULTS.glob("*.json")])
        )
    return load_table(path)


def slice_of(cell: Cell) -> SavedSlice:
    """The users of the cell's slice."""
    slices = result(cell.result).slices
    if cell.slice not in slices:
        raise PalateError(f"{_WHERE}: {cell.result} has no slice '{cell.slice}'", suggest(str(cell.slice), slices))
    return slices[cell.slice]


def row_of(cell: Cell) -> SavedRow | None:
    """The model's row among all users, or in a slice; None where this result has no such model."""
    rows = result(cell.result).models if cell.slice is None else slice_of(cell).models
    label = cell.instead.get(cell.model, cell.model)
    return next((row for row in rows if row.label == label), None)


def shown(cell: Cell) -> str:
    """The text of a cell; empty where the figure is not known, as a base has no difference from itself."""
    row = row_of(cell) if cell.model else None
    if row is None:
        return ""
    metric = cell.metric or result(cell.result).primary
    figure, difference = row.metrics.get(metric), row.differences.get(metric)
    if cell.show == "seeds":
        return str(len(row.seeds))
    if cell.show in ("difference", "p", "detectable"):
        if difference is None:
            return ""
        if cell.show == "difference":
            return _bold(cell, _interval(difference.mean, difference.low, difference.high, f"+.{cell.digits}f"))
        value = difference.p_holm if cell.show == "p" else difference.detectable
        return _number(value, ".3f" if cell.show == "p" else f".{cell.digits}f")
    if figure is None:
        return ""
    if cell.show == "seed":
        return _number(dict(zip(row.seeds, figure.by_seed, strict=True)).get(cell.seed), f".{cell.digits}f")
    if cell.show == "by-seed":
        return ", ".join(_number(one, f".{cell.digits}f") for one in figure.by_seed)
    if cell.show == "mean":
        return _number(figure.mean, f".{cell.digits}f")
    return _bold(cell, _interval(figure.mean, figure.low, figure.high, f".{cell.digits}f"))


def _bold(cell: Cell, text: str) -> str:
    return f"**{text}**" if cell.bold and text else text


def _interval(mean: float | None, low: float | None, high: float | None, form: str) -> str:
    whole = f" [{_number(low, form)}, {_number(high, form)}]" if low is not None and high is not None else ""
    return _number(mean, form) + whole


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def markdown(name: str, layout: Mapping[str, Any]) -> str:
    """A table as Markdown.

    Raises:
        PalateError: an unknown key, or a row or a column of figures without any, which is a misspelt name.
    """
    where = f"{_WHERE} [{name}]"
    shared = {key: value for key, value in layout.items() if key not in ("columns", "rows", "label")}
    columns, rows = layout["columns"], layout["rows"]
    cells = [[Cell.parse({**shared, **column, **row}, where) for column in columns] for row in rows]
    texts = [[shown(cell) for cell in line] for line in cells]
    for row, line in zip(rows, texts, strict=True):
        if row.get("model", shared.get("model")) and not any(line):
            raise PalateError(f"{where}: there is no figure in the row {row}", "Are its names spelt as in the results?")
    for column, line in zip(columns, zip(*texts, strict=True), strict=True):
        if not any(line):
            raise PalateError(f"{where}: there is no figure in the column {column}", "Are its names spelt right?")
    heads = [_head(Cell.parse({**shared, **column}, where)) for column in columns]
    first = [row.get("label", row.get("model", "")) for row in rows]
    if any(first):
        heads = [layout.get("label", ""), *heads]
        texts = [[label, *line] for label, line in zip(first, texts, strict=True)]
    lines = [heads, None, *texts]
    return "".join("|" + "---|" * len(heads) + "\n" if line is None else f"| {' | '.join(line)} |\n" for line in lines)


def _head(column: Cell) -> str:
    users = f"{slice_of(column).users:,}" if "{users}" in column.label else ""
    return (column.label or column.model).replace("{users}", users)


def written(page: Path) -> str:
    """The page with its tables as the results say."""
    layouts = read_toml(TABLES)

    def table(match: re.Match[str]) -> str:
        name = match[2]
        if name not in layouts:
            raise PalateError(f"{page.name}: there is no table '{name}' in {TABLES.name}", suggest(name, layouts))
        return f"{match[1]}\n{markdown(name, layouts[name])}\n{match[3]}"

    return _BETWEEN.sub(table, page.read_text(encoding="utf-8"))


def names_on(page: Path) -> Iterator[str]:
    """The tables of a page."""
    yield from (match[2] for match in _BETWEEN.finditer(page.read_text(encoding="utf-8")))


if __name__ == "__main__":
    for one in PAGES:
        write_text(one, written(one))
