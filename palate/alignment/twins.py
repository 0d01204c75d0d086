"""Near twins of items, for pairs: an item that is all but the same as what was taken is a likely false negative."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from palate.alignment.prefixes import Integers, Prefixes
from palate.data.dataset import Dataset
from palate.data.sequences import Sequences
from palate.errors import PalateError
from palate.features.neighbour_store import NeighbourList
from palate.features.neighbours import neighbour_list, open_source
from palate.negatives.config import NegativesConfig


@dataclass(frozen=True)
class Twins:
    """The near twins of every item.

    Attributes:
        near: one row per item (row 0, padding, is empty): its twins.
        history: twins of this many of a history's newest items count as well.
        facts: ``source``; ``list``, its fingerprint; ``cosine``; ``per_item``, the mean number of twins; ``without``,
            the share of items that have none; ``cut``, the share whose listed neighbours are all twins, so that there
            may be more.
    """

    near: Prefixes
    history: int
    facts: dict[str, Any]

    @classmethod
    def of(cls, neighbours: NeighbourList, cosine: float, history: int = 0) -> Twins:
        """Items whose cosine is at least ``cosine``. A list is cut, so that either item of a pair may hold the other.

        Raises:
            PalateError: there are none.
        """
        close = neighbours.values >= cosine
        rows, places = np.nonzero(close)
        width = len(neighbours.items)
        ones = np.ones(len(rows), np.int8)
        one_way = sparse.csr_matrix((ones, (rows, neighbours.items[rows, places])), shape=(width, width))
        both = (one_way + one_way.T).tocsr()
        both.sort_indices()
        if not both.nnz:
            raise PalateError(
                f"no item has a neighbour by {neighbours.source} with a cosine of {cosine} or more",
                "Lower negatives.twin_cosine, or take another negatives.twin_source.",
            )
        counts = np.diff(both.indptr)[1:]
        facts = {
            "source": neighbours.source,
            "list": neighbours.fingerprint,
            "cosine": cosine,
            "per_item": round(float(counts.mean()), 3),
            "without": round(float((counts == 0).mean()), 6),
            "cut": round(float(close[1:].all(1).mean()), 6),
        }
        near = Sequences(both.indices.astype(np.int32), both.indptr.astype(np.int64))
        return cls(Prefixes(near), history, facts)

    def of_rows(self, rows: Integers, items: Integers) -> tuple[Integers, Integers]:
        """(rows, twins) of all the twins of (rows, items); a twin of two items of a row comes twice."""
        index, twins = self.near.of_users(items)
        return rows[index], twins


def twin_origin(negatives: NegativesConfig, dataset: Dataset, path: Path | None) -> dict[str, Any]:
    """What twins are made from, for keys and ``run.json``; empty where the settings do not use them.

    Args:
        path: the folder of the feature stores; None is the one that the dataset was read from.

    Raises:
        PalateError: there is no such source, or a stale or damaged one.
    """
    if not negatives.content_aware:
        return {}
    assert negatives.twin_source is not None
    store = open_source(dataset, negatives.twin_source, dataset.folder if path is None else path)
    return {"twins": {"source": negatives.twin_source, "store": None if store is None else store.fingerprint}}


def make_twins(negatives: NegativesConfig, dataset: Dataset, path: Path | None) -> Twins | None:
    """The twins that the settings name, or None; the list of neighbours is made where it is not stored."""
    if not negatives.content_aware:
        return None
    assert negatives.twin_source is not None
    neighbours = neighbour_list(dataset, negatives.twin_source, dataset_path=path)
    return Twins.of(neighbours, negatives.twin_cosine, negatives.twin_history)
