"""H&M's log with the colour variants of a product as one item: each purchase names the product's best-selling variant.

    python benchmarks/merge_variants.py hm-week --out hm-merged
    palate prepare hm-merged --reader hm --images hm-week/images --k-core 5 --out data/hm-merged

Articles with the same text in ``--column`` are variants. The best-selling one is that of the whole log, whoever buys;
its picture and its texts stand for all.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import polars as pl

from palate.data.readers.find import one_file
from palate.data.readers.hm import ARTICLES, LOGS


def merged(log: pl.DataFrame, articles: pl.DataFrame, column: str) -> pl.DataFrame:
    """The log, each article replaced by the one of its product that is bought most (of equals, the lowest id)."""
    sold = log.group_by("article_id").len("sold")
    known = articles.select("article_id", product=column).join(sold, on="article_id", how="left")
    best = known.sort(pl.col("sold").fill_null(0), "article_id", descending=[True, False]).unique(
        "product", keep="first", maintain_order=True
    )
    stands = known.join(best.select("product", best="article_id"), on="product").select("article_id", "best")
    joined = log.join(stands, on="article_id", how="left", maintain_order="left")
    return joined.with_columns(article_id=pl.coalesce("best", "article_id")).select(log.columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--column", default="prod_name")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    file = one_file(options.source, LOGS.__contains__, " or ".join(LOGS))
    log = pl.read_csv(file, infer_schema=False)
    articles = pl.read_csv(options.source / ARTICLES, infer_schema=False)
    after = merged(log, articles, options.column)
    options.out.mkdir(parents=True, exist_ok=True)
    after.write_csv(options.out / file.name)
    articles.write_csv(options.out / ARTICLES)
    bought = [frame.n_unique(["customer_id", "article_id"]) for frame in (log, after)]
    print(f"{log['article_id'].n_unique():,} articles, {after['article_id'].n_unique():,} after")
    print(f"{bought[0]:,} pairs of customer and article, {bought[1]:,} after")


if __name__ == "__main__":
    main()
