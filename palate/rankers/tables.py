"""Tables of recommendations written batch by batch, in the format that the file's ending names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from palate.errors import PalateError
from palate.storage.files import atomic_file

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
ENDINGS = (".parquet", *_SEPARATORS)


def check_ending(path: Path | str) -> str:
    """The ending of a table's file name, in lower case.

    Raises:
        PalateError: no table is written under such a name.
    """
    ending = Path(path).suffix.lower()
    if ending not in ENDINGS:
        raise PalateError(f"{path} cannot be written as a table", f"Give a name that ends in {', '.join(ENDINGS)}.")
    return ending


@contextmanager
def table_writer(path: Path | str, schema: pa.Schema) -> Iterator[Callable[[pl.DataFrame], None]]:
    """Yield a function that appends a frame; the file appears whole when the block ends, or not at all.

    Args:
        schema: names and types of the frames' columns, in order.

    Raises:
        PalateError: the ending is unknown, see :func:`check_ending`; nothing is written then.
    """
    ending = check_ending(path)
    with atomic_file(path) as part:
        if ending == ".parquet":
            with pq.ParquetWriter(part, schema, compression="zstd") as writer:
                yield lambda rows: writer.write_table(rows.to_arrow().cast(schema))
        else:
            with part.open("wb") as file:
                file.write(_SEPARATORS[ending].join(schema.names).encode() + b"\n")
                yield lambda rows: rows.write_csv(file, include_header=False, separator=_SEPARATORS[ending])
