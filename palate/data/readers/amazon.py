"""Amazon Reviews 2014, 2018 and 2023: reviews and metadata as ``.json`` or ``.jsonl``, ratings alone as ``.csv``."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from palate.data.readers.amazon_ratings import read_ratings
from palate.data.readers.base import ReaderOptions, Source, TimeUnit
from palate.data.readers.find import one_file, uncompressed
from palate.data.readers.json_lines import Malformed, blocks, parse_object, read_columns
from palate.data.readers.pictures import pictures_of
from palate.errors import PalateError

_ENDINGS = (".json", ".jsonl")
_RATINGS = ".csv"
_META = "meta_"
# 2014 and 2018 share their keys; 2023 groups the variants of a product under parent_asin.
_LAYOUTS = (
    {"user": "reviewerID", "item": "asin", "weight": "overall", "timestamp": "unixReviewTime"},
    {"user": "user_id", "item": "parent_asin", "weight": "rating", "timestamp": "timestamp"},
    {"user": "user_id", "item": "asin", "weight": "rating", "timestamp": "timestamp"},
)
_SCHEMA: dict[str, Any] = {
    "item_id": pl.String,
    "title": pl.String,
    "brand": pl.String,
    "categories": pl.List(pl.String),
    "description": pl.String,
    "price": pl.Float64,
}
_PRICE = re.compile(r"^\s*\$?\s*(\d[\d,]*(?:\.\d+)?)\s*$")
_LOOK_AT = 100


class Amazon:
    """One category's reviews or ratings, and its ``meta_*`` file beside them where there is one."""

    takes: ClassVar[frozenset[str]] = frozenset()

    def read(self, source: Path, options: ReaderOptions) -> Source:
        reviews = _log_file(source)
        folder = reviews.parent
        report: dict[str, Any] = {}
        if uncompressed(reviews.name).lower().endswith(_RATINGS):
            log = read_ratings(reviews)
        else:
            columns = _layout(reviews)
            unit: TimeUnit = "s" if columns["timestamp"] == "unixReviewTime" else "ms"
            log = Source(_reviews(reviews, columns, report), [reviews], time_unit=unit)
        files, catalogue = [reviews], None
        meta = _meta_file(folder, reviews)
        if meta is not None:
            catalogue = _read_meta(meta, report)
            files.append(meta)
        images, root = pictures_of(folder, options.images, "images")
        return replace(log, files=files, catalogue=catalogue, images=images, root=root, report=report)


def _log_file(source: Path) -> Path:
    """The reviews, or else the ratings: a folder may have both of them."""
    endings: tuple[str, ...] = _ENDINGS
    if source.is_dir() and not any(_is_log(path.name, _ENDINGS) for path in source.iterdir() if path.is_file()):
        endings = (_RATINGS,)
    expected = "reviews file (.json, .jsonl, or ratings as .csv, each also with .gz)"
    return one_file(source, lambda name: _is_log(name, endings), expected)


def _is_log(name: str, endings: tuple[str, ...]) -> bool:
    return uncompressed(name).lower().endswith(endings) and not name.startswith(_META)


def _layout(path: Path) -> dict[str, str]:
    """Which keys the reviews have, judged by the first usable line."""
    first: list[str] = []
    for line in islice((line for block in blocks(path) for line in block), _LOOK_AT):
        value = parse_object(line, literals=False)
        if value is None:
            continue
        first = first or sorted(value)
        for layout in _LAYOUTS:
            if all(key in value for key in layout.values()):
                return layout
    shown = f"the first line has {', '.join(first)}" if first else f"none of the first {_LOOK_AT} lines is JSON"
    raise PalateError(
        f"{path} holds no Amazon reviews ({shown})",
        "Expected reviewerID, asin, overall, unixReviewTime (2014, 2018) or user_id, parent_asin, rating, timestamp.",
    )


def _reviews(path: Path, columns: dict[str, str], report: dict[str, Any]) -> Iterator[pl.DataFrame]:
    malformed = Malformed()
    for frame in read_columns(path, columns, malformed):
        yield frame.with_columns(pl.col("weight").cast(pl.Float32))
    report.update(malformed.report())


def _meta_file(folder: Path, reviews: Path) -> Path | None:
    """The metadata of the same category, or the only metadata file of the folder."""
    found = sorted(path for path in folder.iterdir() if path.name.startswith(_META) and path.is_file())
    found = [path for path in found if uncompressed(path.name).lower().endswith(_ENDINGS)]
    same = [path for path in found if _category(path) == _category(reviews)]
    if len(same or found) > 1:
        names = ", ".join(path.name for path in (same or found))
        raise PalateError(f"{folder} has several metadata files for {reviews.name}: {names}", "Keep one of them there.")
    best = same or found
    return best[0] if best else None


def _category(path: Path) -> str:
    """``reviews_Beauty_5.json.gz``, ``ratings_Beauty.csv`` and ``meta_Beauty.json.gz`` are all of ``beauty``."""
    stem = uncompressed(path.name).rsplit(".", 1)[0].lower()
    return re.sub(r"_\d+$", "", re.sub(r"^(reviews_|ratings_|meta_)", "", stem))


def _read_meta(path: Path, report: dict[str, Any]) -> pl.DataFrame:
    """A row a product; lines may be JSON or, in 2014, Python dict literals."""
    malformed, scripts, number = Malformed(), 0, 0
    frames = [pl.DataFrame(schema=_SCHEMA)]
    for lines in blocks(path):
        rows: list[dict[str, Any]] = []
        for number, line in enumerate(lines, number + 1):  # noqa: B020 - the count goes on from block to block
            if not line.strip():
                continue
            product = parse_object(line, literals=True)
            item = (product or {}).get("parent_asin") or (product or {}).get("asin")
            if product is None or not isinstance(item, str):
                malformed.add(number)
                continue
            row = _product(item, product)
            if row["title"] and "getTime" in row["title"]:
                # Some titles of 2018 are a piece of the page's script instead.
                row["title"], scripts = None, scripts + 1
            rows.append(row)
        frames.append(pl.DataFrame(rows, schema=_SCHEMA))
    report.update(malformed.report("metadata_"))
    if scripts:
        report["titles_that_are_scripts"] = scripts
    return pl.concat(frames)


def _product(item: str, product: dict[str, Any]) -> dict[str, Any]:
    categories = product.get("categories") or product.get("category") or []
    return {
        "item_id": item,
        "title": _clean(product.get("title")),
        "brand": _clean(product.get("store") or product.get("brand")),
        "categories": list(dict.fromkeys(_flat(categories))) or None,
        "description": _clean(" ".join(_flat(product.get("description") or []))),
        "price": _price(product.get("price")),
    }


def _flat(value: Any) -> Iterator[str]:
    """Strings of a string, a list, or a list of lists."""
    if isinstance(value, str):
        text = _clean(value)
        if text:
            yield text
    elif isinstance(value, list):
        for part in value:
            if isinstance(part, str | list):
                yield from _flat(part)


def _clean(value: Any) -> str | None:
    return " ".join(html.unescape(value).split()) or None if isinstance(value, str) else None


def _price(value: Any) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    match = _PRICE.match(value) if isinstance(value, str) else None
    return float(match[1].replace(",", "")) if match else None
