"""Tables of recommendations written batch by batch, in the format that the file's ending names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from palate.errors import PalateError
from palate.rankers.remote_table import check_url, parts_writer
from palate.rankers.spreadsheet import check_spreadsheet, write_spreadsheet
from palate.rankers.text_cells import flat_cells, formulas_as_text
from palate.storage.files import atomic_file
from palate.storage.remote import is_url

Append = Callable[[pl.DataFrame], None]


@contextmanager
def _parquet(path: Path, schema: pl.Schema) -> Iterator[Append]:
    found = pl.DataFrame(schema=schema).to_arrow().schema
    # polars says large_string, which some readers of Parquet do not know.
    plain = pa.schema([(one.name, pa.string() if pa.types.is_large_string(one.type) else one.type) for one in found])
    with pq.ParquetWriter(path, plain, compression="zstd") as writer:
        yield lambda rows: writer.write_table(rows.to_arrow().cast(plain))


@contextmanager
def _json_lines(path: Path, schema: pl.Schema) -> Iterator[Append]:
    with path.open("wb") as file:
        yield lambda rows: rows.write_ndjson(file)


@contextmanager
def _separated(path: Path, schema: pl.Schema, separator: str) -> Iterator[Append]:
    with path.open("wb") as file:
        formulas_as_text(pl.DataFrame(schema=dict.fromkeys(schema, pl.String))).write_csv(file, separator=separator)

        def append(rows: pl.DataFrame) -> None:
            safe = formulas_as_text(flat_cells(rows))
            safe.write_csv(file, include_header=False, separator=separator)

        yield append


_WRITERS: dict[str, Callable[[Path, pl.Schema], AbstractContextManager[Append]]] = {
    ".parquet": _parquet,
    ".csv": partial(_separated, separator=","),
    ".tsv": partial(_separated, separator="\t"),
    ".jsonl": _json_lines,
    ".xlsx": write_spreadsheet,
}
ENDINGS = tuple(_WRITERS)


def check_table(path: Path | str, rows: int = 0) -> str:
    """The ending of a table's file name, in lower case; at a URL there are parts that end in ``.parquet``.

    Args:
        rows: how many there may be.

    Raises:
        PalateError: no table is written under such a name, or more rows than the format holds.
    """
    if is_url(path):
        check_url(str(path))
        return ".parquet"
    ending = Path(path).suffix.lower()
    if ending not in ENDINGS:
        raise PalateError(f"{path} cannot be written as a table", f"Give a name that ends in {', '.join(ENDINGS)}.")
    if ending == ".xlsx":
        check_spreadsheet(path, rows)
    return ending


@contextmanager
def table_writer(path: Path | str, schema: pl.Schema, rows: int = 0) -> Iterator[Append]:
    """Yield a function that appends a frame; the file appears whole when the block ends, or not at all.

    At a URL it is a folder of Parquet parts; see :mod:`palate.rankers.remote_table`.

    In ``.csv``, ``.tsv`` and ``.xlsx`` lists are joined by ", ". What a spreadsheet program would run as a formula
    stays a text: see :mod:`palate.rankers.text_cells`.

    Args:
        schema: names and types of the frames' columns, in order.
        rows: how many there may be.

    Raises:
        PalateError: what :func:`check_table` refuses; nothing is written then.
    """
    if is_url(path):
        with parts_writer(str(path), schema, _parquet) as append:
            yield append
        return
    ending = check_table(path, rows)
    with atomic_file(path) as part, _WRITERS[ending](part, schema) as append:
        yield append
