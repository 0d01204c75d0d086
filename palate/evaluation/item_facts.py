"""What metrics of recommended lists know of items: vectors that say how alike two are, and groups they belong to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from palate.data.dataset import Dataset
from palate.data.sequences import Sequences, offsets_of
from palate.errors import PalateError, suggest
from palate.features.folders import store_folder
from palate.features.store import FeatureStore

VECTORS, GROUPS, HISTORIES = "vectors", "groups", "histories"
# Where nothing is named: the first of these that the dataset has.
_STORES = ("text", "image")
_FIELDS = ("category", "categories", "genres", "brand")


@dataclass(frozen=True)
class ItemFacts:
    """Facts of all items of a catalogue.

    Attributes:
        vectors: ``[num_items + 1, width]``, a feature store's; None where no metric needs them.
        present: bool ``[num_items + 1]``: which items have a vector.
        groups: for each item (row 0 is padding) the numbers of the groups it belongs to; or None.
        source: which store and field they come from, for the record.
    """

    vectors: npt.NDArray[Any] | None = None
    present: npt.NDArray[np.bool_] | None = None
    groups: Sequences | None = None
    source: dict[str, str] | None = None


def item_facts(
    dataset: Dataset, needs: Iterable[str], diversity_by: str | None = None, calibration_by: str | None = None
) -> ItemFacts:
    """What some metrics need of a dataset's items.

    Args:
        needs: of :data:`VECTORS` and :data:`GROUPS`; others are ignored.
        diversity_by: name of a feature store; by default ``text``, or else ``image``.
        calibration_by: a field of the catalogue; by default its category, categories, genres or brand.

    Raises:
        PalateError: no such store or field, or none to take by default.
    """
    needed, source = set(needs), {}
    vectors = present = groups = None
    if VECTORS in needed:
        store = _store(dataset, diversity_by)
        vectors, present, source["diversity_by"] = store.vectors, store.present, store.folder.name
    if GROUPS in needed:
        field = _field(dataset, calibration_by)
        groups, source["calibration_by"] = groups_of(dataset.catalogue.frame[field]), field
    return ItemFacts(vectors, present, groups, source or None)


def groups_of(column: pl.Series) -> Sequences:
    """Number the values of a field; items share a number where they share a value. An empty field is no group.

    >>> groups_of(pl.Series([["b", "a"], [], ["a"]])).values.tolist()
    [1, 0, 0]
    """
    single = column.dtype != pl.List
    lists = column.reshape((len(column), 1)).arr.to_list() if single else column
    flat = pl.DataFrame({"value": lists}).with_row_index("item", offset=1).explode("value").drop_nulls("value")
    flat = flat.unique(maintain_order=True)
    codes = flat["value"].cast(pl.String).rank("dense").to_numpy().astype(np.int32) - 1
    counts = np.bincount(flat["item"].to_numpy(), minlength=len(column) + 1)
    return Sequences(codes, offsets_of(counts))


def _store(dataset: Dataset, name: str | None) -> FeatureStore:
    if dataset.folder is None:
        raise PalateError("diversity needs encoded items, and this dataset is in no folder", "Save and encode it.")
    folders = [store_folder(dataset.folder, one) for one in ((name,) if name else _STORES)]
    found = next((folder for folder in folders if (folder / "store.json").is_file()), None)
    if found is None:
        raise PalateError(
            f"diversity compares items by their features, and {dataset.folder} has no '{name or 'text'}'",
            f"Run `palate encode {dataset.folder}`, or name a store: --diversity-by NAME.",
        )
    return FeatureStore.load(found, dataset.catalogue)


def _field(dataset: Dataset, name: str | None) -> str:
    fields = dataset.catalogue.fields
    if name is not None:
        if name not in fields:
            raise PalateError(f"--calibration-by {name}: the catalogue has no such field", suggest(name, fields))
        return name
    found = next((one for one in _FIELDS if one in fields), None)
    if found is None:
        raise PalateError(
            f"calibration compares shares of groups, and the catalogue has none of: {', '.join(_FIELDS)}",
            f"Name a field, --calibration-by FIELD, of: {', '.join(fields) or 'none'}.",
        )
    return found
