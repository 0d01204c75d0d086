"""An Excel workbook of one sheet, written batch by batch by the library XlsxWriter (extra ``excel``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import polars as pl

from palate.errors import PalateError
from palate.rankers.text_cells import flat_cells

MOST_ROWS = 1_048_575  # beside the header, of a sheet
_MOST_TEXT = 32_767  # characters of a cell


def check_spreadsheet(path: Path | str, rows: int = 0) -> None:
    """Refuse before any work what cannot become a workbook.

    Raises:
        PalateError: the library is not installed, or there are more rows than a sheet holds.
    """
    if find_spec("xlsxwriter") is None:
        raise PalateError(
            f"{path} needs the package XlsxWriter",
            "Run `pip install 'palate[excel]'`, or give a name that ends in .csv.",
        )
    if rows > MOST_ROWS:
        raise PalateError(
            f"{path} would have {rows:,} rows, and a sheet of Excel holds {MOST_ROWS:,} beside its header",
            "Give a name that ends in .parquet or .csv, a smaller --k, or a dataset with fewer users.",
        )


@contextmanager
def write_spreadsheet(path: Path, schema: pl.Schema) -> Iterator[Callable[[pl.DataFrame], None]]:
    """Yield a function that appends a frame. Every text is a text: no formula, no link, no number.

    Args:
        schema: names and types of the frames' columns, in order.
    """
    import xlsxwriter

    # Rows go to the disk as they come. Without use_zip64 a sheet of more than 4 GB would be damaged.
    book = xlsxwriter.Workbook(str(path), {"constant_memory": True, "use_zip64": True})
    sheet = book.add_worksheet("recommendations")
    for column, name in enumerate(schema):
        sheet.write_string(0, column, name[:_MOST_TEXT], book.add_format({"bold": True}))
        sheet.set_column(column, column, 40 if name == "title" else 16)
    sheet.freeze_panes(1, 0)
    written = 0

    def append(frame: pl.DataFrame) -> None:
        nonlocal written
        for row in flat_cells(frame).iter_rows():
            written += 1
            for column, value in enumerate(row):
                if isinstance(value, str):
                    sheet.write_string(written, column, value[:_MOST_TEXT])
                elif isinstance(value, bool):
                    sheet.write_boolean(written, column, value)
                elif value is not None and value == value and abs(value) != float("inf"):
                    sheet.write_number(written, column, value)

    yield append
    book.close()
