"""Cells of tables that a spreadsheet program may open: flat, and never a formula.

Titles and fields come from catalogues of unknown origin, and in a CSV file a text that begins with ``=`` is run as a
formula, which can read other cells or call a program (OWASP, CSV injection).
"""

from __future__ import annotations

import polars as pl

_FORMULA = r"^[=+\-@\t\r\n＝＋－＠]"
_NUMBER = r"^[+-]?\d+(\.\d+)?([eE][+-]?\d+)?$"


def flat_cells(frame: pl.DataFrame) -> pl.DataFrame:
    """Entries of a list joined by ", ", no NaN, and whatever is neither text, number nor truth value as text."""
    return frame.with_columns(_flat(name, kind) for name, kind in frame.schema.items())


def _flat(name: str, kind: pl.DataType) -> pl.Expr:
    if isinstance(kind, pl.List):
        return pl.col(name).list.eval(pl.element().cast(pl.String)).list.join(", ", ignore_nulls=True)
    if kind.is_float():
        return pl.col(name).fill_nan(None)
    return pl.col(name) if kind.is_numeric() or kind == pl.Boolean else pl.col(name).cast(pl.String)


def read_as_formula(texts: pl.Series) -> pl.Series:
    """Which texts a spreadsheet program would take for a formula; plain numbers, such as -3, are none."""
    cell = pl.col(texts.name)
    return texts.to_frame().select((cell.str.contains(_FORMULA) & ~cell.str.contains(_NUMBER)).fill_null(False))[
        texts.name
    ]


def formulas_as_text(frame: pl.DataFrame) -> pl.DataFrame:
    """An apostrophe before each text that would be read as a formula, and before such names of columns."""
    texts = [name for name, kind in frame.schema.items() if kind == pl.String]
    made = frame.with_columns(
        pl.when(read_as_formula(frame[name])).then("'" + pl.col(name)).otherwise(pl.col(name)).alias(name)
        for name in texts
    )
    names = pl.Series("name", frame.columns, dtype=pl.String)
    odd = read_as_formula(names)
    return made.rename({name: f"'{name}" for name in names.filter(odd)})
