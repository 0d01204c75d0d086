"""Neighbours in a bundle: what its items were compared by, so that items that are added find their neighbours.

::

    BUNDLE/neighbours/
      lexical.safetensors   CSR [items + 1, terms]: values float32, columns int32, offsets int64
      lexical.parquet       term and idf of every column
      text.safetensors      vectors and present, where they are not in features/ already

The lists and their weights are the model's, and so is what dense vectors are whitened by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy import sparse

from palate.bundle.features import made_by, open_stores
from palate.bundle.load import Bundle
from palate.data.catalogue import Catalogue
from palate.errors import PalateError
from palate.features.content import texts_of
from palate.features.cosines import Vectors, new_neighbours
from palate.features.lexical import lexical_fingerprint
from palate.features.lexical_store import LAYOUT, LexicalOptions, LexicalStore, csr_arrays, csr_of, is_vocabulary
from palate.features.neighbour_store import NeighbourList
from palate.features.neighbours import CO_OCCURRENCE
from palate.rankers.content_knn import ContentKNN
from palate.rankers.neighbours import FILE
from palate.rankers.registry import load_recommender
from palate.rankers.sequential import SequentialRanker
from palate.recommender import Recommender
from palate.runs.run import Run
from palate.storage.tables import read_parquet
from palate.storage.tensors import check_finite

FOLDER = "neighbours"


def lists_of(model: Recommender) -> list[NeighbourList]:
    """The lists of neighbours that a recommender reads; most read none."""
    if isinstance(model, ContentKNN):
        return list(model.lists)
    if isinstance(model, SequentialRanker) and model.neighbours is not None:
        return list(model.neighbours.lists)
    return []


def save_neighbours(
    run: Run, folder: Path, features: Mapping[str, Any], with_vectors: bool | None
) -> tuple[dict[str, Any], list[str]]:
    """Write what the lists of a run's model were made from, and say how it is made.

    Args:
        features: what :func:`palate.bundle.features.save_features` returned: vectors are stored once.
        with_vectors: as there.

    Returns:
        Facts by source (the training log has none), and what a person should know.

    Raises:
        PalateError: the features are requested, and are gone or have changed since the training.
    """
    if run.info["model"] != ContentKNN.name and not (run.model_folder / FILE).is_file():
        return {}, []
    lists = [one for one in lists_of(load_recommender(run)) if one.source != CO_OCCURRENCE]
    recorded = _stores_of(run)
    stores = open_stores(run, recorded)
    facts: dict[str, Any] = {}
    notes: list[str] = []
    for one in lists:
        name, store = one.source, stores.get(one.source)
        if name in recorded:
            facts[name] = {**made_by(recorded[name], store), "keep": one.keep}
        if with_vectors is False:
            continue
        if store is None:
            gone = f"the {name} features that its neighbours were compared by are not with the dataset any more"
            if with_vectors:
                raise PalateError(gone, "Encode them again as they were, or give --without-features.")
            notes.append(f"{gone}; the bundle takes no new items")
            continue
        there = _same(features, store.fingerprint)
        if there is not None:
            facts[name]["file"] = there
            continue
        facts[name]["file"] = f"{FOLDER}/{name}.safetensors"
        (folder / FOLDER).mkdir(exist_ok=True)
        if isinstance(store, LexicalStore):
            save_file(csr_arrays(store.matrix), folder / facts[name]["file"])
            facts[name]["vocabulary"] = f"{FOLDER}/{name}.parquet"
            store.vocabulary.write_parquet(folder / facts[name]["vocabulary"])
        else:
            rows = {"vectors": np.ascontiguousarray(store.vectors), "present": np.array(store.present)}
            save_file(rows, folder / facts[name]["file"])
    return facts, notes


def _stores_of(run: Run) -> dict[str, Any]:
    """A run's facts of the stores of its lists, by source."""
    if run.info["model"] == ContentKNN.name:
        found: dict[str, Any] = run.info.get("features", {})
    else:
        found = (run.info.get("neighbours") or {}).get("stores", {})
    return found


def _same(features: Mapping[str, Any], fingerprint: str) -> str | None:
    """The file of a modality's vectors that are these."""
    files = (one["file"] for one in features.values() if one["fingerprint"] == fingerprint and one["file"])
    return next(files, None)


@dataclass(frozen=True)
class ContentSource:
    """A source of neighbours, opened so that new items can be compared.

    Attributes:
        facts: of the bundle.
        neighbours: the list as it is.
        vectors: of the bundle's items, after the source's transform: rows of length 1, or zero.
        words: of lexical sources.
    """

    facts: dict[str, Any]
    neighbours: NeighbourList
    vectors: Vectors
    words: LexicalStore | None

    @property
    def source(self) -> str:
        return self.neighbours.source

    def of_texts(self, items: pl.DataFrame) -> sparse.csr_matrix:
        """Vectors of the words of new items: float32 CSR ``[items, terms]``."""
        assert self.words is not None
        content = self.facts["content"]
        return self.words.transform(texts_of(Catalogue(items), content["fields"], content.get("without")))

    def of_vectors(self, vectors: npt.NDArray[Any], present: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        """An encoder's vectors ``[items, width]`` as the list compares them."""
        assert self.neighbours.whitening is not None
        return self.neighbours.whitening.apply(vectors, present)

    def with_items(self, new: Vectors, original: int) -> NeighbourList:
        """The list with the new items, see :func:`palate.features.cosines.new_neighbours`."""
        keep = int(self.facts["keep"])
        one = self.neighbours
        items, values = new_neighbours(one.items, one.values, self.vectors, new, keep=keep, original=original)
        return NeighbourList.of(one.source, items, values, one.whitening)


def open_content_sources(bundle: Bundle) -> list[ContentSource]:
    """The content sources of a bundle's neighbours, in the order of the model's lists.

    Raises:
        PalateError: a source without its features, or with damaged ones; words that this version weighs otherwise.
    """
    opened = []
    for one in lists_of(bundle.recommender):
        if one.source == CO_OCCURRENCE:
            continue
        facts = bundle.facts.get("neighbours", {}).get(one.source)
        if facts is None or facts["file"] is None:
            raise PalateError(
                f"{bundle.folder} is without the {one.source} features that its neighbours were compared by, and "
                "new items have to be compared too",
                "Make the bundle again with --with-features.",
            )
        opened.append(_open(bundle, one, facts))
    return opened


def _open(bundle: Bundle, one: NeighbourList, facts: dict[str, Any]) -> ContentSource:
    path, rows = bundle.folder / facts["file"], one.num_items + 1
    try:
        arrays = load_file(path)
        check_finite(path, arrays, "Make the bundle again.")
        if facts.get("layout") == LAYOUT:
            words = _words(bundle, arrays, facts, rows)
            return ContentSource(facts, one, words.matrix, words)
        vectors, present = arrays["vectors"], arrays["present"]
        if one.whitening is None:
            raise PalateError(
                f"{bundle.folder} does not hold what its {one.source} features are whitened by",
                "Make its neighbours again (palate attach), and the bundle.",
            )
        if vectors.shape != (rows, len(one.whitening.centre)) or present.shape != (rows,) or present.dtype != np.bool_:
            raise ValueError(f"vectors {vectors.shape} for {rows} rows")
        return ContentSource(facts, one, one.whitening.apply(vectors, present), None)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, pl.exceptions.PolarsError) as error:
        raise PalateError(f"{path} is damaged ({error})", "Make the bundle again.") from None


def _words(bundle: Bundle, arrays: Mapping[str, npt.NDArray[Any]], facts: dict[str, Any], rows: int) -> LexicalStore:
    """The store of words that a bundle holds, without the texts it was made of."""
    vocabulary = read_parquet(bundle.folder / facts["vocabulary"])
    matrix = csr_of(arrays, rows, int(facts["width"]))
    if not is_vocabulary(vocabulary, int(facts["width"])):
        raise ValueError("the vocabulary is of another width")
    options = LexicalOptions.parse(facts["encoder"]["options"], where=str(bundle.folder / "bundle.json"))
    if lexical_fingerprint(options) != facts["encoder"]["fingerprint"]:
        raise PalateError(
            "this version of Palate makes other terms of words than the one that made the bundle",
            "Use that version, or encode and train again.",
        )
    table = bundle.items.catalogue.frame.select("item_id")
    return LexicalStore(bundle.folder, dict(facts), matrix, np.diff(matrix.indptr) > 0, table, vocabulary)


def append_rows(old: Path, new: Path, made: Any) -> None:
    """The file of a source or a modality with the rows of new items behind the others.

    Args:
        made: CSR ``[count, terms]``, or vectors ``[count, width]`` and which are present.
    """
    old_rows = load_file(old)
    if sparse.issparse(made):
        matrix = csr_of(old_rows, len(old_rows["offsets"]) - 1, made.shape[1])
        rows = csr_arrays(sparse.vstack([matrix, made], format="csr"))
    else:
        vectors, present = made
        pairs = {"vectors": vectors.astype(old_rows["vectors"].dtype), "present": present}
        rows = {key: np.concatenate([old_rows[key], pairs[key]]) for key in pairs}
    new.parent.mkdir(exist_ok=True)
    save_file(rows, new)


def append_to_lists(
    model: Recommender, compared: Sequence[ContentSource], new: Mapping[str, Vectors], count: int, original: int
) -> list[NeighbourList]:
    """The lists of a model for ``count`` more items.

    Args:
        new: by source, the new items' vectors as the list compares them.
        original: how many items the lists were made of.
    """
    by_source = {one.source: one for one in compared}
    lists = []
    for one in lists_of(model):
        if one.source in by_source:
            lists.append(by_source[one.source].with_items(new[one.source], original))
        else:  # the training log does not know new items: they have no neighbours there
            more = (0, count), (0, 0)
            padded = np.pad(one.items, more), np.pad(one.values, more)
            lists.append(NeighbourList.of(one.source, *padded, one.whitening))
    return lists
