"""Items of the source that are not in the dataset, and the step that left each of them out."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from palate.data.folder import DROPPED
from palate.data.log import Log
from palate.errors import PalateError
from palate.storage.files import read_json
from palate.storage.tables import scan_parquet

_UNSEEN = "unseen"


class Dropped:
    """Collects the items that lose their last interaction; call it after every step."""

    def __init__(self) -> None:
        self._found = [pl.DataFrame(schema={"item_id": pl.String, "step": pl.String})]

    def __call__(self, step: str, before: Log, after: Log) -> None:
        gone = (before.item_counts() > 0) & (after.item_counts() == 0)
        self._add(before.item_ids.filter(pl.Series(gone)), step)

    def frame(self, catalogue_ids: pl.Series, kept: pl.Series) -> pl.DataFrame:
        """``item_id`` and ``step`` of all that were dropped, with the catalogue's items that have no interaction."""
        there = pl.concat([kept, *(found["item_id"] for found in self._found)])
        self._add(catalogue_ids.filter(~catalogue_ids.is_in(there.implode())), _UNSEEN)
        return pl.concat(self._found)

    def _add(self, ids: pl.Series, step: str) -> None:
        self._found.append(pl.DataFrame({"item_id": ids.cast(pl.String)}).with_columns(step=pl.lit(step)))


def why_dropped(dropped: pl.LazyFrame | None, item: str) -> str | None:
    """A sentence on what left an item out, or None for an item that the source does not have."""
    if dropped is None:
        return None
    try:
        steps = dropped.filter(pl.col("item_id") == item).select("step").head(1).collect()["step"]
    except (OSError, pl.exceptions.PolarsError):
        return None  # it only serves a message
    if not len(steps):
        return None
    if steps[0] == _UNSEEN:
        return "It is in the catalogue, but nobody has taken it: `palate prepare --keep-unseen` keeps such items."
    return f"The source has it, but --{steps[0]} left it out when the dataset was made."


def dropped_of(folder: Path | str | None, fingerprint: str) -> pl.LazyFrame | None:
    """The dropped items of the dataset in a folder, if it is the dataset of that fingerprint and has any."""
    if folder is None or not (Path(folder) / DROPPED).is_file():
        return None
    try:
        manifest = read_json(Path(folder) / "manifest.json")
    except PalateError:
        return None
    same = isinstance(manifest, dict) and manifest.get("fingerprint") == fingerprint
    return scan_parquet(Path(folder) / DROPPED) if same else None
