"""H&M's shop: ``transactions_train.csv``, ``articles.csv`` and photographs, as in its competition of 2022."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import polars as pl

from palate.data.readers.base import ReaderOptions, Source
from palate.data.readers.find import one_file
from palate.data.readers.pictures import pictures_of
from palate.data.readers.text import Delimited, scan_delimited, unreadable
from palate.errors import PalateError

LOGS = ("transactions_train.csv", "transactions.csv")
ARTICLES = "articles.csv"
_COLUMNS = {"user": "customer_id", "item": "article_id", "timestamp": "t_dat"}
# Numbers that only repeat what the column of the same name says in words (colour_group_code, colour_group_name).
_CODES = ("_no", "_code", "_id")
_PRODUCT = "product_code"


class HM:
    """Purchases by day; ids stay text, so that ``0111565001`` keeps its zero; prices and channels are left out."""

    takes: ClassVar[frozenset[str]] = frozenset({"quote"})

    def read(self, source: Path, options: ReaderOptions) -> Source:
        log = one_file(source, LOGS.__contains__, " or ".join(LOGS))
        table = scan_delimited(log, ",", quote=options.quote)
        table.require(_COLUMNS.values())
        catalogue, files = None, [log]
        articles = log.parent / ARTICLES
        if articles.is_file():
            catalogue = _articles(articles, options.quote)
            files.append(articles)
        images, root = pictures_of(log.parent, options.images, "images", prefixes=True)
        return Source(
            interactions=table.frame.select(
                user=pl.col("customer_id"), item=pl.col("article_id"), timestamp=_day(pl.col("t_dat"))
            ),
            files=files,
            catalogue=catalogue,
            images=images,
            root=root,
            time_unit="ms",
            explain=lambda row: _explain(table, row),
            locate=table.at,
        )


def _day(cell: pl.Expr) -> pl.Expr:
    """Midnight UTC of a date as Unix milliseconds; null where it is none."""
    return cell.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("ms")).dt.epoch("ms")


def _explain(table: Delimited, row: int | None) -> PalateError | None:
    if row is None:
        return table.explain(None, _COLUMNS)
    cells, at = table.cells(row), table.at(row)
    for ours, theirs in _COLUMNS.items():
        if not (cells[theirs] or "").strip():
            return PalateError(f"{at}: no value in column '{theirs}'", f"Every interaction needs its {ours}.")
    return PalateError(
        f"{at}: '{cells['t_dat']}' in column 't_dat' is not a date", "Write dates as 2020-09-21, or remove the row."
    )


def _articles(path: Path, quote: str) -> pl.DataFrame:
    """``prod_name`` is the title, the other columns are fields; of the codes only the product's own stays."""
    table = scan_delimited(path, ",", quote=quote)
    table.require(["article_id", "prod_name"])
    codes = [name for name in table.columns if name.endswith(_CODES)]
    fields = [name for name in table.columns if name not in (*codes, "prod_name")]
    cells = {"item_id": "article_id", "title": "prod_name"} | {name: name for name in fields}
    columns = [pl.col(theirs).str.strip_chars().alias(ours) for ours, theirs in cells.items()]
    if _PRODUCT in codes:
        # A number, which is no text: articles of one product in several colours share it.
        columns.append(pl.col(_PRODUCT).cast(pl.Int64, strict=False))
    try:
        frame = table.frame.select(columns).collect()
    except pl.exceptions.PolarsError as error:
        raise table.explain(None, {}) or unreadable(path, error) from None
    return frame.with_columns(pl.when(pl.col(pl.String) != "").then(pl.col(pl.String)))
