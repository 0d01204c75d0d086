"""Finds each item's nearest items by a source: the training log, words, texts, pictures, or vectors made elsewhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from palate.data.catalogue import Catalogue
from palate.data.dataset import Dataset
from palate.errors import PalateError, suggest
from palate.features.co_occurrence import SHRINKAGE, co_occurrence
from palate.features.cosines import Vectors, largest_cosines, new_neighbours
from palate.features.folders import store_folder
from palate.features.largest import Triples, padded
from palate.features.lexical_store import LexicalStore, is_lexical
from palate.features.neighbour_store import FORMAT, NeighbourList
from palate.features.store import FeatureStore, read_store_json
from palate.features.whitening import COMPONENTS, Whitening
from palate.progress import track
from palate.storage.files import digest, read_json
from palate.storage.leftovers import sweep

__all__ = [
    "CO_OCCURRENCE",
    "KEEP",
    "NeighbourList",
    "check_sources",
    "neighbour_list",
    "new_neighbours",
    "sources",
    "vectors_of",
]

CO_OCCURRENCE = "co-occurrence"
FOLDER = "neighbours"
KEEP = 100


def sources(dataset_path: Path | str) -> list[str]:
    """The content sources of a dataset's folder: its feature stores, in the order lexical, text, image, others."""
    first = ("lexical", "text", "image")
    found = [path.parent.name for path in Path(dataset_path).glob("features/*/store.json")]
    found = [name for name in found if not name.startswith(".")]
    return sorted(found, key=lambda name: (first.index(name) if name in first else len(first), name))


def neighbour_list(
    dataset: Dataset,
    source: str,
    *,
    dataset_path: Path | str | None = None,
    keep: int = KEEP,
    show_progress: bool = True,
) -> NeighbourList:
    """The nearest items of every item: made once, kept in ``DATASET/neighbours/SOURCE``, used while it fits.

    * ``co-occurrence``: the training interactions only, as item-knn does with its default options.
    * a lexical store: the cosine of the words' TF-IDF.
    * any other store: the cosine after :class:`Whitening` by the items of the training split that have the feature.
      Cosines that are not above 0 are dropped; an item without the feature has no neighbours, and is nobody's.

    Exact, and in blocks of rows: memory is bounded, whatever the number of items.

    Args:
        dataset_path: where the feature stores are; by default the folder that the dataset was read from. Without one
            only ``co-occurrence`` can be made, and nothing is kept.

    Raises:
        PalateError: no such store, a stale or damaged one, before any work.
    """
    if keep < 1:
        raise PalateError(f"keep is {keep}", "Keep at least one neighbour.")
    path = dataset.folder if dataset_path is None else Path(dataset_path)
    store = open_source(dataset, source, path)
    made_from, options = _origin(dataset, source, store)
    folder = None if path is None else path / FOLDER / source
    if folder is not None:
        sweep(folder.parent)
    stored = None if folder is None else _stored(folder, dataset.catalogue, made_from, options, keep)
    if stored is not None:
        return stored.cut(keep)
    whitening = None
    if store is None:
        steps: Iterable[Triples] = co_occurrence(dataset, keep, SHRINKAGE)
        total = None
    else:
        whitening = _whitening(dataset, store)
        steps, total = largest_cosines(vectors_of(store, whitening), keep)
    if show_progress:
        steps = track(steps, f"Neighbours by {source}", total=total)
    items, values = padded(list(steps), dataset.num_items + 1, keep)
    info = {
        "format": FORMAT,
        "source": source,
        "items": dataset.num_items,
        "items_fingerprint": digest(*dataset.catalogue.ids),
        "options": {**options, "keep": keep},
        "made_from": made_from,
        "store": None if store is None else store.describe(),
    }
    made = NeighbourList(source, items, values, info, whitening).signed()
    if folder is not None:
        try:
            made.save(folder)
        except OSError as error:  # a folder that may only be read, or another process that was faster
            print(f"The list of neighbours is not kept in {folder} ({error}).", file=sys.stderr)
    return made


def check_sources(dataset: Dataset, names: Iterable[str], dataset_path: Path | str | None = None) -> None:
    """Refuse what :func:`neighbour_list` would refuse, before any of the lists is made."""
    for name in names:
        open_source(dataset, name, dataset.folder if dataset_path is None else Path(dataset_path))


def open_source(dataset: Dataset, source: str, path: Path | None) -> FeatureStore | LexicalStore | None:
    """The store of a source, or None for ``co-occurrence``.

    Raises:
        PalateError: no such store, or a stale or damaged one.
    """
    if source == CO_OCCURRENCE:
        return None
    if path is None:
        raise PalateError(
            f"neighbours by {source} need a feature store, and the dataset has no folder", "Save it first."
        )
    folder = store_folder(path, source)
    if not (folder / "store.json").is_file():
        hint = {"lexical": "--lexical", "text": "--text minilm", "image": "--image efficientnet-lite0"}.get(source)
        known = [CO_OCCURRENCE, *sources(path)]
        remedy = f"Make it: `palate encode {path} {hint}`." if hint else suggest(source, known)
        raise PalateError(f"{path} has no features named '{source}'", remedy)
    if is_lexical(read_store_json(folder)):
        return LexicalStore.load(folder, dataset.catalogue)
    return FeatureStore.load(folder, dataset.catalogue)


def vectors_of(store: FeatureStore | LexicalStore, whitening: Whitening | None = None) -> Vectors:
    """The vectors of a store whose products are the cosines that are compared: rows of length 1, or zero."""
    if isinstance(store, LexicalStore):
        return store.matrix
    if whitening is None:
        raise PalateError("dense features are compared after whitening", "Give the whitening of their list.")
    return whitening.apply(store.vectors, store.present)


def _whitening(dataset: Dataset, store: FeatureStore | LexicalStore) -> Whitening | None:
    """Statistics of the items that were trained on, as the rankers take them; of all where none of these is there."""
    if isinstance(store, LexicalStore):
        return None
    known = store.present & (dataset.train_counts > 0)
    return Whitening.fit(store.vectors, known if known.any() else store.present)


def _origin(dataset: Dataset, source: str, store: FeatureStore | LexicalStore | None) -> tuple[str, dict[str, Any]]:
    """Hash of what a list is made from, and the options it is made with."""
    ids = digest(*dataset.catalogue.ids)
    if store is None:
        train = dataset.train_sequences()
        return digest(ids, train.offsets.tobytes(), train.values.tobytes()), {"shrinkage": SHRINKAGE}
    if isinstance(store, LexicalStore):
        return digest(ids, store.fingerprint), {}
    trained = (dataset.train_counts > 0).tobytes()
    return digest(ids, store.fingerprint, trained), {"components": COMPONENTS}


def _stored(
    folder: Path, catalogue: Catalogue, made_from: str, options: dict[str, Any], keep: int
) -> NeighbourList | None:
    """The list in a folder where it fits, and None where there is none or it has to be made again."""
    try:
        info = read_json(folder / "neighbours.json")
        before = {name: value for name, value in info["options"].items() if name != "keep"}
        same = json.dumps(before, sort_keys=True) == json.dumps(options, sort_keys=True)
        if info["made_from"] != made_from or not same or info["options"]["keep"] < keep:
            return None
        return NeighbourList.load(folder, catalogue)
    except (PalateError, KeyError, TypeError, AttributeError):
        return None
