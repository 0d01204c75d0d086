"""The FeatureStore: one vector per item for one modality, what is missing, and where the vectors come from.

::

    DATASET/features/text/
      store.json      encoder, options, fingerprints, coverage; written last: a folder without it is no store
      vectors.npy     float32 or float16 [items + 1, width], row 0 zero; memory-mapped
      present.npy     bool [items + 1]; False where the item has no vector (its row is zero, but is no feature)
      items.parquet   the item id of every row, and the hash of what was encoded
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from palate.console import counted
from palate.data.catalogue import Catalogue
from palate.data.numbering import numbers_of
from palate.errors import PalateError
from palate.features.content import SCHEMA, first_change
from palate.features.described import DescribedFeatures
from palate.features.facts import check_store_facts
from palate.storage.files import atomic_folder, digest, file_digest, read_json, write_json
from palate.storage.remote import local
from palate.storage.tables import read_parquet
from palate.storage.tensors import check_finite, load_array

FORMAT = 1
Floats = npt.NDArray[np.float32] | npt.NDArray[np.float16]


@dataclass(frozen=True)
class FeatureStore(DescribedFeatures):
    """Vectors of one modality, aligned to a catalogue.

    Attributes:
        folder: where the store is.
        info: the content of ``store.json``.
        vectors: float32 or float16 ``[num_items + 1, width]``, read-only, memory-mapped where the order of
            items allows; row 0 (padding) and the rows of missing items are zero.
        present: bool ``[num_items + 1]``: which rows hold a feature. What to do about the rest is a training choice.
        table: item id and content hash of every item, in the catalogue's order.
    """

    folder: Path
    info: dict[str, Any]
    vectors: Floats
    present: npt.NDArray[np.bool_]
    table: pl.DataFrame

    @classmethod
    def load(cls, folder: Path | str, catalogue: Catalogue) -> FeatureStore:
        """Open a store for a catalogue; rows are matched by item id, whatever the order.

        Raises:
            PalateError: no store, a partial or damaged one, or one whose items or contents are not the catalogue's.
        """
        folder = local(folder)
        info, again = read_store_json(folder), remedy(folder)
        if info.get("layout", "dense") != "dense":
            raise PalateError(
                f"{folder} holds words, not vectors of one width", "Name a store of --text, --image or --matrix."
            )
        vectors, present, table = read_store(folder, info)
        if not table["item_id"].equals(catalogue.frame["item_id"]):
            rows = align_rows(folder, table, catalogue, again)
            vectors, present, table = vectors[rows], present[rows], table[(rows[1:] - 1).tolist()]
            vectors.setflags(write=False)
        change = first_change(catalogue, info["content"], table)
        if change:
            raise PalateError(f"the feature store {folder} is stale: {change} since it was encoded", again)
        return cls(folder, info, vectors, present, table)

    @property
    def width(self) -> int:
        return int(self.vectors.shape[1])

    def describe(self) -> dict[str, Any]:
        """Facts for reports and run folders."""
        return {
            "modality": self.modality,
            "encoder": self.encoder,
            "encoder_fingerprint": self.info["encoder"]["fingerprint"],
            "content": self.info["content"],
            "width": self.width,
            "dtype": str(self.vectors.dtype),
            "coverage": {**self.info["coverage"], "items": round(self.coverage, 6)},
            "missing": self.info["missing"],
            "fingerprint": self.fingerprint,
        }


def write_store(
    folder: Path,
    *,
    modality: str,
    encoder: dict[str, Any],
    content: dict[str, Any],
    table: pl.DataFrame,
    vectors: Path | npt.NDArray[Any],
    present: npt.NDArray[np.bool_],
    interactions: npt.NDArray[np.integer[Any]],
    missing: list[dict[str, Any]],
    replace: bool,
    reused: dict[str, Any] | None = None,
) -> None:
    """Write a whole store or nothing.

    Args:
        encoder: ``name``, ``fingerprint`` and options.
        vectors: the matrix, or a .npy file that is moved into the store (for matrices larger than memory).
        interactions: item indices of the dataset's interactions, for the coverage.
        missing: ``{"reason", "items", "examples"}`` of the items that have no vector.
        reused: how many ``items`` have the vector of an earlier store, and the ``fingerprint`` of that.
    """
    with atomic_folder(folder, replace=replace) as part:
        target = part / "vectors.npy"
        if isinstance(vectors, Path):
            vectors.replace(target)
        else:
            np.save(target, vectors, allow_pickle=False)
        matrix = np.load(target, mmap_mode="r", allow_pickle=False)
        np.save(part / "present.npy", present, allow_pickle=False)
        table.write_parquet(part / "items.parquet")
        content_hash = digest(*table["item_id"], *table["content"].fill_null(""))
        coverage = {
            "items": round(float(present[1:].mean()), 6) if len(present) > 1 else 0.0,
            "interactions": round(float(present[interactions].mean()), 6) if len(interactions) else 0.0,
        }
        info = {
            "format": FORMAT,
            "complete": True,
            "modality": modality,
            "encoder": encoder,
            "content": content,
            "content_fingerprint": content_hash,
            "items": len(table),
            "width": int(matrix.shape[1]),
            "dtype": str(matrix.dtype),
            "coverage": coverage,
            "missing": missing,
            **({"reused": reused} if reused else {}),
            "fingerprint": digest(encoder["fingerprint"], content_hash, file_digest(target)),
        }
        write_json(part / "store.json", info)


def read_store_json(folder: Path) -> dict[str, Any]:
    """The ``store.json`` of a whole store of any layout.

    Raises:
        PalateError: there is none, or it is partial or of a format that is not read.
    """
    if not (folder / "store.json").is_file():
        raise PalateError(f"{folder} is not a feature store (it has no store.json)", "Make it with `palate encode`.")
    info, again = read_json(folder / "store.json"), remedy(folder)
    if not isinstance(info, dict) or info.get("format") != FORMAT:
        raise PalateError(f"{folder} is of a format that this Palate does not read", again)
    if info.get("complete") is not True:
        raise PalateError(f"the feature store {folder} is not complete", again)
    check_store_facts(info, folder / "store.json", again)
    return info


def read_store(folder: Path, info: dict[str, Any]) -> tuple[Floats, npt.NDArray[np.bool_], pl.DataFrame]:
    """Vectors, mask and table of a store as they are in its files, checked against each other.

    Args:
        info: from :func:`read_store_json`, of a dense store.

    Raises:
        PalateError: the store is damaged.
    """
    again = remedy(folder)
    try:
        vectors = load_array(folder / "vectors.npy", mapped=True)
        present = load_array(folder / "present.npy")
        table = read_parquet(folder / "items.parquet")
        rows = int(info["items"]) + 1
        sound = (
            vectors.shape == (rows, info["width"])
            and str(vectors.dtype) == info["dtype"] in ("float32", "float16")
            and present.shape == (rows,)
            and present.dtype == np.bool_
            and len(table) == rows - 1
            and all(table.schema.get(name) == kind for name, kind in SCHEMA.items())
            and not present[0]
            and not vectors[0].any()
            and {"kind"} <= set(info["content"])
            and {"name", "fingerprint"} <= set(info["encoder"])
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError, pl.exceptions.PolarsError) as error:
        raise PalateError(f"the feature store {folder} is damaged ({error})", again) from None
    if not sound:
        raise PalateError(f"the feature store {folder} is damaged (its files do not fit together)", again)
    check_finite(folder / "vectors.npy", {"vectors": vectors}, again)
    return vectors, present, table


def align_rows(folder: Path, table: pl.DataFrame, catalogue: Catalogue, again: str) -> npt.NDArray[np.int64]:
    """int64 ``[num_items + 1]``: the store's row of every item of the catalogue."""
    if table["item_id"].n_unique() < len(table):
        raise PalateError(f"the feature store {folder} is damaged (it has an item twice)", again)
    ids = catalogue.frame["item_id"]
    rows = numbers_of(ids, table["item_id"])
    lacking = ids.filter(pl.Series(rows == 0))
    if len(lacking):
        raise PalateError(
            f"the feature store {folder} is stale: it lacks {counted(len(lacking), 'item')}, such as '{lacking[0]}'",
            again,
        )
    return np.concatenate([np.zeros(1, np.int64), rows])


def remedy(folder: Path) -> str:
    """The command that makes a store again, in the user's words."""
    dataset, modality = folder.parent.parent, folder.name
    options = {"text": "--text NAME", "image": "--image NAME", "lexical": "--lexical"}
    try:
        command = read_json(folder / "store.json")["encoder"]["command"].replace("DATASET", str(dataset))
    except (PalateError, KeyError, TypeError, AttributeError):
        command = f"palate encode {dataset} {options.get(modality, '...')} --store {folder.name}"
    return f"Encode it again: `{command} --overwrite`."
