"""Which items a catalogue and a folder of pictures were found to describe: recorded while both are still at hand."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import polars as pl

from palate.data.catalogue import Catalogue
from palate.data.images import inside
from palate.data.log import Log
from palate.data.readers.base import Source
from palate.errors import PalateError

_EXAMPLES = 5
# Paths that are looked for on disk: enough to notice a wrong folder.
_LOOKED_AT = 1000


def matches(source: Source, rows: pl.DataFrame, log: Log, catalogue: Catalogue, described: bool) -> dict[str, Any]:
    """For the manifest: what of the catalogue and of the pictures belongs to items of the log.

    Args:
        rows: of the source's catalogue, one per id.
        log: what the filters left.
        catalogue: of the dataset.
        described: whether there is a catalogue of the source.

    Returns:
        ``catalogue``: its ``rows``, the ``items`` of the log, and ``unmatched``: how many ``items`` have no row, their
        share of ``interactions``, and ``examples`` of the ids of both sides. ``pictures``: how many the source
        ``offered`` (files, or cells that name one), the ``items`` that have one, how many of these were ``looked_at``
        on disk, and how many of those are ``missing``. Either is None where the source has none.
    """
    return {
        "catalogue": None if not described else _catalogue(rows, log),
        "pictures": _pictures(source, rows, catalogue),
    }


def _catalogue(rows: pl.DataFrame, log: Log) -> dict[str, Any]:
    known = log.item_ids.is_in(rows["item_id"].implode())
    counts = log.item_counts()
    missing = ~known.to_numpy()
    examples = {
        "log": log.item_ids.filter(~known).head(_EXAMPLES).to_list(),
        "catalogue": rows["item_id"].head(_EXAMPLES).to_list(),
    }
    share = float(counts[missing].sum() / max(1, counts.sum()))
    return {
        "rows": len(rows),
        "items": len(log.item_ids),
        "unmatched": {"items": int(np.count_nonzero(missing)), "interactions": round(share, 6), "examples": examples},
    }


def _pictures(source: Source, rows: pl.DataFrame, catalogue: Catalogue) -> dict[str, Any] | None:
    named = catalogue.frame["image"].drop_nulls()
    offered = len(source.images)
    if "image" in rows.columns:
        offered += int(rows["image"].is_not_null().sum())
    if not offered:
        return None
    looked = list(islice(named, _LOOKED_AT))
    missing = sum(not _exists(catalogue, name) for name in looked)
    return {"offered": offered, "items": len(named), "looked_at": len(looked), "missing": missing}


def _exists(catalogue: Catalogue, name: str) -> bool:
    try:
        return inside(catalogue.root, name).exists()
    except (PalateError, OSError, ValueError):
        return False
