"""Neighbour lists against plain loops, their artefact, and items added later."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import sparse
from worlds import random_logs

from palate.artefact import describe
from palate.data.catalogue import Catalogue
from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.features import cosines
from palate.features.lexical import encode_lexical
from palate.features.matrix import import_matrix
from palate.features.neighbour_store import NeighbourList
from palate.features.neighbours import neighbour_list, new_neighbours, sources
from palate.features.whitening import Whitening
from palate.rankers.item_knn import ItemKNN

ITEMS = 40
WORDS = ["red", "blue", "green", "silk", "wool", "cotton", "shirt", "dress", "sock", "scarf", "5ml", "xl"]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Forty items with a few words each; item 7 has no text, items 3 and 4 have the same."""
    made = random_logs(users=60, items=ITEMS, repeats=True)
    rng = np.random.default_rng(5)
    titles: list[str | None] = [" ".join(rng.choice(WORDS, 3, replace=False)) for _ in range(ITEMS)]
    titles[6], titles[3] = None, titles[2]
    frame = made.catalogue.frame.with_columns(title=pl.Series(titles, dtype=pl.String))
    dataclasses.replace(made, catalogue=Catalogue(frame)).save(tmp_path / "data")
    return Dataset.load(tmp_path / "data")


def with_vectors(dataset: Dataset, width: int = 6) -> None:
    """A dense store ``text`` without items 5 and 6."""
    vectors = np.random.default_rng(2).normal(3.0, 1.0, (ITEMS, width)).astype(np.float32)
    vectors[4:6] = np.nan
    folder = dataset.folder
    assert folder is not None
    np.save(folder.parent / "v.npy", vectors)
    (folder.parent / "v.ids.json").write_text(json.dumps(dataset.catalogue.ids[1:]))
    import_matrix(dataset, folder, "text", folder.parent / "v.npy")


def naive(vectors: np.ndarray, keep: int) -> tuple[np.ndarray, np.ndarray]:
    cosine = np.round((vectors.astype(np.float64) @ vectors.astype(np.float64).T).astype(np.float32), 6)
    np.fill_diagonal(cosine, 0)
    items, values = np.zeros((len(vectors), keep), np.int32), np.zeros((len(vectors), keep), np.float32)
    for row, line in enumerate(cosine):
        best = np.lexsort((np.arange(len(line)), -line))[:keep]
        best = best[line[best] > 0]
        items[row, : len(best)], values[row, : len(best)] = best, line[best]
    return items, values


def unit(rows: int, width: int, seed: int) -> np.ndarray:
    made = np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


@pytest.mark.parametrize("block", [64, 2**24])
def test_words_are_compared_by_cosine(dataset: Dataset, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cosines, "_BLOCK_NUMBERS", block)
    assert dataset.folder is not None
    store = encode_lexical(dataset, dataset.folder)
    found = neighbour_list(dataset, "lexical", keep=5, show_progress=False)
    items, values = naive(store.matrix.toarray(), 5)
    np.testing.assert_array_equal(found.items, items)
    np.testing.assert_allclose(found.values, values, atol=2e-6)
    assert (found.items.dtype, found.values.dtype) == (np.int32, np.float32)
    assert not found.items[7].any()
    assert found.items[3, 0] == 4  # the same words
    assert found.values[3, 0] == 1.0
    dense = found.matrix().toarray()
    assert dense[3, 4] == 1.0
    assert np.count_nonzero(dense) == np.count_nonzero(found.items)


def test_dense_features_are_whitened_by_the_items_of_the_training_split(dataset: Dataset) -> None:
    assert dataset.folder is not None
    with_vectors(dataset)
    found = neighbour_list(dataset, "text", keep=ITEMS, show_progress=False)
    vectors = np.load(dataset.folder / "features/text/vectors.npy").astype(np.float64)
    present = np.load(dataset.folder / "features/text/present.npy")
    known = present & (dataset.train_counts > 0)
    values, directions = np.linalg.eigh(np.cov(vectors[known].T))
    components = known.sum() // 8
    white = (vectors - vectors[known].mean(0)) @ (directions / np.sqrt(values))[:, ::-1][:, :components]
    white = np.where(present[:, None], white / np.linalg.norm(white, axis=1, keepdims=True), 0)
    expected, cosine = naive(white.astype(np.float32), ITEMS)
    np.testing.assert_allclose(found.values, cosine, atol=1e-5)
    assert (found.items == expected).mean() > 0.99  # a rounded cosine may differ, and with it an order
    assert not found.items[5].any()
    assert not np.isin(found.items, [5, 6]).any()
    assert found.whitening is not None
    np.testing.assert_allclose(
        np.abs(found.whitening.apply(vectors.astype(np.float32), present)), np.abs(white), atol=1e-4
    )


def test_co_occurrence_is_what_item_knn_knows(dataset: Dataset) -> None:
    found = neighbour_list(dataset, "co-occurrence", show_progress=False).matrix()
    model = ItemKNN.fit(dataset).similarity
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(found, name), getattr(model, name))


def test_a_list_is_made_once_and_again_where_its_source_changes(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = dataset.folder
    assert folder is not None
    encode_lexical(dataset, folder)
    first = neighbour_list(dataset, "lexical", keep=6, show_progress=False)
    with monkeypatch.context() as patch:
        patch.setattr("palate.features.neighbours.largest_cosines", None)  # would fail
        again = neighbour_list(dataset, "lexical", keep=6, show_progress=False)
        fewer = neighbour_list(dataset, "lexical", keep=2, show_progress=False)
    assert again.info == first.info
    np.testing.assert_array_equal(fewer.items, first.items[:, :2])
    assert fewer.info["options"]["keep"] == 2
    assert fewer.fingerprint != first.fingerprint
    encode_lexical(dataset, folder, without="red|blue", overwrite=True)
    other = neighbour_list(dataset, "lexical", keep=6, show_progress=False)
    assert other.fingerprint != first.fingerprint
    # A list that is damaged is made again without a word: it is derived.
    (folder / "neighbours/lexical/items.npy").write_bytes(b"no array")
    assert neighbour_list(dataset, "lexical", keep=6, show_progress=False).info == other.info
    assert sources(folder) == ["lexical"]


def test_a_stale_store_and_an_unknown_source_are_refused_before_any_work(dataset: Dataset) -> None:
    assert dataset.folder is not None
    with pytest.raises(PalateError, match=r"no features named 'lexical'.*--lexical"):
        neighbour_list(dataset, "lexical")
    encode_lexical(dataset, dataset.folder)
    with pytest.raises(PalateError, match=r"no features named 'lexicla'.*lexical"):
        neighbour_list(dataset, "lexicla")
    changed = dataclasses.replace(
        dataset, catalogue=Catalogue(dataset.catalogue.frame.with_columns(title=pl.lit("red silk")))
    )
    with pytest.raises(PalateError, match="stale: the text of item"):
        neighbour_list(changed, "lexical")
    assert not (dataset.folder / "neighbours").exists()
    with pytest.raises(PalateError, match="no folder"):
        neighbour_list(dataclasses.replace(dataset, folder=None), "lexical")


def test_a_dataset_with_lists_is_replaced_and_loses_them(dataset: Dataset) -> None:
    folder = dataset.folder
    assert folder is not None
    neighbour_list(dataset, "co-occurrence", show_progress=False)
    assert describe(folder / "neighbours/co-occurrence")["kind"] == "list of neighbours"
    dataset.save(folder, replace=True)
    assert not (folder / "neighbours").exists()


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        ("items", lambda a: a[:, :2], "shapes"),
        ("items", lambda a: a.astype(np.int64), "types"),
        ("items", lambda a: np.where(a > 0, a + ITEMS, a), "not in the catalogue"),
        ("items", lambda a: np.where(a > 0, np.arange(ITEMS + 1)[:, None], a).astype(np.int32), "its own neighbour"),
        ("values", lambda a: -a, "no cosines"),
        ("values", lambda a: (a / 2).astype(np.float32), "other content"),
    ],
)
def test_a_damaged_list_is_refused(dataset: Dataset, tmp_path: Path, name: str, change, problem: str) -> None:
    neighbour_list(dataset, "co-occurrence", keep=4, show_progress=False).save(tmp_path / "list")
    path = tmp_path / f"list/{name}.npy"
    np.save(path, change(np.load(path)))
    with pytest.raises(PalateError, match=f"damaged.*{problem}"):
        NeighbourList.load(tmp_path / "list", dataset.catalogue)


def test_a_list_of_other_items_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    neighbour_list(dataset, "co-occurrence", keep=4, show_progress=False).save(tmp_path / "list")
    with pytest.raises(PalateError, match="is of other items"):
        NeighbourList.load(tmp_path / "list", Catalogue(dataset.catalogue.frame.reverse()))
    with pytest.raises(PalateError, match="no list of neighbours"):
        NeighbourList.load(tmp_path, dataset.catalogue)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("block", [40, 2**24])
def test_new_items_join_and_nothing_leaves(kind: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cosines, "_BLOCK_NUMBERS", block)
    old, new = np.concatenate([np.zeros((1, 5), np.float32), unit(20, 5, 0)]), unit(7, 5, 1)
    if kind == "sparse":
        old[np.abs(old) < 0.5], new[np.abs(new) < 0.5] = 0, 0
    old[4], new[2] = 0, old[8]  # an item without the feature; a new one like an old one
    form = sparse.csr_matrix if kind == "sparse" else np.asarray
    items, values = naive(old, 4)
    found = new_neighbours(items, values, form(old), form(new), keep=4, original=20)
    cosine = np.round(np.concatenate([old, new]).astype(np.float64) @ np.concatenate([old, new]).T, 6)
    np.fill_diagonal(cosine, 0)
    for row, line in enumerate(cosine):
        nearest = sorted((value for value in line[:21] if value > 0), reverse=True)[:4]
        last = nearest[3] if len(nearest) == 4 else 0
        entered = sorted((value for value in line[21:] if value > last + 1e-5), reverse=True)[:4]
        expected = sorted([*nearest, *entered], reverse=True)
        count = int((found[0][row] > 0).sum())
        np.testing.assert_allclose(found[1][row, :count], expected, atol=2e-6)
        np.testing.assert_allclose(found[1][row, :count], line[found[0][row, :count]], atol=2e-6)
        if row < 21:
            assert set(items[row]) <= {0, *found[0][row].tolist()}
    assert found[0].dtype == np.int32
    assert found[0][8, 0] == 23  # the new twin
    assert not found[0][4].any()
    assert found[0].shape[1] > 4
    some = new_neighbours(items, values, form(old), form(new[:3]), keep=4, original=20)
    rest = new_neighbours(*some, form(np.concatenate([old, new[:3]])), form(new[3:]), keep=4, original=20)
    width = rest[0].shape[1]
    np.testing.assert_array_equal(rest[0], np.pad(found[0], ((0, 0), (0, width)))[:, :width])
    with pytest.raises(PalateError, match="do not fit together"):
        new_neighbours(items[:-1], values[:-1], form(old), form(new), keep=4, original=20)


def test_equal_items_stand_in_index_order() -> None:
    """Products of floats differ in the last bits with the place in the matrix; equal items must not."""
    one = unit(1, 37, 3)
    vectors = np.concatenate([np.zeros((1, 37), np.float32), np.repeat(one, 30, axis=0)])
    steps, _ = cosines.largest_cosines(vectors, 3)
    triples = list(steps)
    columns = np.concatenate([columns for _, columns, _ in triples])
    assert columns[:9].tolist() == [2, 3, 4, 1, 3, 4, 1, 2, 4]


def test_few_items_have_few_components() -> None:
    vectors = np.random.default_rng(0).normal(size=(30, 64)).astype(np.float32)
    assert Whitening.fit(vectors, np.ones(30, np.bool_)).basis.shape == (64, 3)
    with pytest.raises(PalateError, match="no item has this feature"):
        Whitening.fit(vectors, np.zeros(30, np.bool_))
