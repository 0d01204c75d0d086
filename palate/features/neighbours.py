"""Each item's nearest items by one source: the training log, words, texts, pictures, or vectors made elsewhere.

::

    DATASET/neighbours/lexical/
      neighbours.json   source, options, what it was made from; written last
      items.npy         int32 [items + 1, keep], best first, 0 where there are fewer
      values.npy        float32 [items + 1, keep], the cosine
      centre.npy        of dense features only: what an encoder's vector is compared by,
      basis.npy         so that an item added later can be compared as well
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from palate.data.catalogue import Catalogue
from palate.data.dataset import Dataset
from palate.errors import PalateError, suggest
from palate.features.co_occurrence import SHRINKAGE, co_occurrence
from palate.features.cosines import Vectors, largest_cosines, new_neighbours
from palate.features.folders import store_folder
from palate.features.largest import Floats, Integers, Triples, padded
from palate.features.lexical import LexicalStore, is_lexical
from palate.features.store import FeatureStore, read_store_json
from palate.features.whitening import COMPONENTS, Whitening
from palate.progress import track
from palate.storage.files import atomic_folder, digest, read_json, write_json
from palate.storage.leftovers import sweep
from palate.storage.tensors import load_array

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

FORMAT = 1
CO_OCCURRENCE = "co-occurrence"
FOLDER = "neighbours"
KEEP = 100


@dataclass(frozen=True)
class NeighbourList:
    """The nearest items of every item, by one source.

    Attributes:
        source: ``co-occurrence``, or the name of a feature store.
        items: int32 ``[num_items + 1, keep]``, best first, equal ones by index; 0 = no neighbour. No item is its own.
        values: float32 ``[num_items + 1, keep]``, the cosine: above 0, and 0 where there is no neighbour.
        info: options, what the list was made from, coverage, and ``fingerprint`` of the list.
        whitening: of dense features: what their vectors are compared by.
    """

    source: str
    items: Integers
    values: Floats
    info: dict[str, Any]
    whitening: Whitening | None = None

    @property
    def keep(self) -> int:
        return int(self.items.shape[1])

    @property
    def num_items(self) -> int:
        return len(self.items) - 1

    @property
    def fingerprint(self) -> str:
        """Hash of source, items and values: equal fingerprints mean equal lists."""
        return str(self.info["fingerprint"])

    @property
    def coverage(self) -> float:
        """Share of the items that have a neighbour, 0 to 1."""
        return float((self.items[1:, 0] > 0).mean()) if self.num_items else 0.0

    def matrix(self) -> sparse.csr_matrix:
        """float32 CSR ``[num_items + 1, num_items + 1]``; row ``h`` holds the neighbours of item ``h``."""
        rows, places = np.nonzero(self.items)
        columns, width = self.items[rows, places], len(self.items)
        return sparse.csr_matrix((self.values[rows, places], (rows, columns)), shape=(width, width), dtype=np.float32)

    @classmethod
    def of(cls, source: str, items: Integers, values: Floats, whitening: Whitening | None = None) -> NeighbourList:
        """A list of arrays that were kept elsewhere (in a model, say), checked.

        Raises:
            ValueError: what is wrong with them.
        """
        made = _signed(cls(source, items, values, {"format": FORMAT, "source": source, "options": {}}, whitening))
        problem = _problem(made, len(items))
        if problem:
            raise ValueError(problem)
        return made

    def cut(self, keep: int) -> NeighbourList:
        """The ``keep`` nearest of each item's neighbours."""
        if keep >= self.keep:
            return self
        return _signed(replace(self, items=self.items[:, :keep].copy(), values=self.values[:, :keep].copy()))

    def save(self, folder: Path) -> None:
        """Write the whole folder or nothing; a list that is there is replaced."""
        with atomic_folder(folder, replace=True) as part:
            arrays = {"items": self.items, "values": self.values}
            if self.whitening is not None:
                arrays |= {"centre": self.whitening.centre, "basis": self.whitening.basis}
            for name, array in arrays.items():
                np.save(part / f"{name}.npy", array, allow_pickle=False)
            write_json(part / "neighbours.json", self.info)

    @classmethod
    def load(cls, folder: Path | str, catalogue: Catalogue) -> NeighbourList:
        """Read what :meth:`save` wrote.

        Raises:
            PalateError: no list, a damaged one, or one of other items than the catalogue's.
        """
        folder = Path(folder)
        again = "Remove the folder: the list is made again where it is used."
        if not (folder / "neighbours.json").is_file():
            raise PalateError(f"{folder} is no list of neighbours (it has no neighbours.json)", "Check the path.")
        info = read_json(folder / "neighbours.json")
        if not isinstance(info, dict) or info.get("format") != FORMAT:
            raise PalateError(f"{folder} is of a format that this Palate does not read", again)
        if info.get("items_fingerprint") != digest(*catalogue.ids):
            raise PalateError(f"the list of neighbours {folder} is of other items than the catalogue's", again)
        try:
            names = [name for name in ("items", "values", "centre", "basis") if (folder / f"{name}.npy").exists()]
            arrays = {name: load_array(folder / f"{name}.npy") for name in names}
            whitening = Whitening(arrays["centre"], arrays["basis"]) if "basis" in arrays else None
            made = cls(str(info["source"]), arrays["items"], arrays["values"], info, whitening)
            problem = _problem(made, len(catalogue) + 1)
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            problem = str(error)
        if problem:
            raise PalateError(f"the list of neighbours {folder} is damaged ({problem})", again)
        return made


def _problem(made: NeighbourList, rows: int) -> str | None:
    """What is wrong with a list that was read, or None."""
    items, values = made.items, made.values
    if items.ndim != 2 or items.shape != values.shape or len(items) != rows:
        return f"shapes {items.shape} and {values.shape}"
    if items.dtype != np.int32 or values.dtype != np.float32:
        return f"types {items.dtype} and {values.dtype}"
    if items.size and (items.min() < 0 or items.max() >= rows):
        return "a neighbour that is not in the catalogue"
    if (items == np.arange(rows)[:, None])[1:].any():
        return "an item that is its own neighbour"
    if items[0].any() or not np.isfinite(values).all() or ((values > 0) != (items > 0)).any() or (values < 0).any():
        return "values that are no cosines"
    white = made.whitening
    if white is not None and not (
        white.centre.ndim == 1 and white.basis.ndim == 2 and len(white.basis) == len(white.centre)
    ):
        return "a basis of another width than the centre"
    if white is not None and not all(
        one.dtype == np.float32 and np.isfinite(one).all() for one in (white.centre, white.basis)
    ):
        return "a centre or a basis that are no numbers"
    if made.info.get("fingerprint") != _fingerprint(made):
        return "other content than it was made with"
    return None


def _fingerprint(made: NeighbourList) -> str:
    return digest(made.source, str(made.items.shape), made.items.tobytes(), made.values.tobytes())


def _signed(made: NeighbourList) -> NeighbourList:
    """The same with what ``info`` says of its content."""
    info = {**made.info, "options": {**made.info["options"], "keep": made.keep}}
    info |= {"coverage": round(made.coverage, 6), "fingerprint": _fingerprint(made)}
    return replace(made, info=info)


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
    kept = None if folder is None else _kept(folder, dataset.catalogue, made_from, options, keep)
    if kept is not None:
        return kept.cut(keep)
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
    made = _signed(NeighbourList(source, items, values, info, whitening))
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


def _kept(
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
