"""Tables in files: every Parquet and delimited file is opened here, so that a path is one file and never a pattern.

polars takes ``[1]``, ``*`` and ``?`` in a path for a pattern, ``~`` for the home folder and ``file:`` for an address:
a run in ``x[lr=0.1]/`` would not be found, and ``a[1]/log.csv`` would silently read ``a1/log.csv``.
"""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any

import polars as pl


def read_parquet(path: Path | str, **options: Any) -> pl.DataFrame:
    """The table of one Parquet file; ``options`` are those of ``polars.read_parquet``."""
    return pl.read_parquet(Path(path).absolute(), glob=False, **options)  # noqa: TID251


def scan_parquet(path: Path | str, **options: Any) -> pl.LazyFrame:
    """One Parquet file, unread; ``options`` are those of ``polars.scan_parquet``."""
    return pl.scan_parquet(Path(path).absolute(), glob=False, **options)  # noqa: TID251


def read_csv(path: Path | str, **options: Any) -> pl.DataFrame:
    """The table of one delimited text file; ``options`` are those of ``polars.read_csv``."""
    return pl.read_csv(Path(path).absolute(), glob=False, **options)  # noqa: TID251


def scan_csv(path: Path | str, **options: Any) -> pl.LazyFrame:
    """One delimited text file, unread; ``options`` are those of ``polars.scan_csv``."""
    return pl.scan_csv(Path(path).absolute(), glob=False, **options)  # noqa: TID251


def scan_ndjson(path: Path | str, **options: Any) -> pl.LazyFrame:
    """One file with a JSON object per line, unread; ``options`` are those of ``polars.scan_ndjson``."""
    return pl.scan_ndjson(glob.escape(str(Path(path).absolute())), **options)  # noqa: TID251
