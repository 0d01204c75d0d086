"""The store of items' words: what it holds, what it does with new texts, and when it is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from feature_helpers import build

from palate.artefact import describe
from palate.data.catalogue import Catalogue
from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.features.lexical import encode_lexical
from palate.features.lexical_store import LexicalOptions, LexicalStore
from palate.features.store import FeatureStore

TITLES = ["Red silk shirt 5ml", "Red silk scarf", "Été shirt", "ete scarf 5ml", None, "unique", "red", "Red sock"]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    made = build(tmp_path)
    frame = pl.DataFrame({"item_id": [f"i{n}" for n in range(1, 9)], "title": TITLES})
    frame = frame.with_columns(image=pl.lit(None, pl.String), brand=pl.lit("acme"))
    Dataset(
        catalogue=Catalogue(frame),
        user_ids=made.user_ids,
        offsets=made.offsets,
        items=made.items,
        parts=made.parts,
        timestamps=None,
        weights=None,
        manifest={"name": "shirts"},
    ).save(tmp_path / "shirts")
    return Dataset.load(tmp_path / "shirts")


def encoded(dataset: Dataset, **options: object) -> LexicalStore:
    assert dataset.folder is not None
    return encode_lexical(dataset, dataset.folder, fields=["title"], **options)  # type: ignore[arg-type]


def test_words_and_pairs_are_weighed_by_how_rare_they_are(dataset: Dataset) -> None:
    store = encoded(dataset)
    terms = store.vocabulary["term"].to_list()
    assert terms == ["5ml", "ete", "red", "red silk", "scarf", "shirt", "silk"]
    counts = np.array([2, 2, 4, 2, 2, 2, 2])
    idf = np.log(9 / (1 + counts)) + 1
    np.testing.assert_allclose(store.vocabulary["idf"].to_numpy(), idf)
    expected = np.where([True, False, True, True, False, True, True], idf, 0)
    np.testing.assert_allclose(store.matrix[1].toarray()[0], expected / np.linalg.norm(expected), rtol=1e-6)
    assert store.present.tolist() == [False, True, True, True, True, False, False, True, True]
    assert store.matrix[0].nnz == 0
    reasons = {row["reason"]: row["examples"] for row in store.info["missing"]}
    assert reasons == {"no text": ["i5"], "no term that other items have too": ["i6"]}
    assert store.coverage == 6 / 8
    assert describe(store.folder)["kind"] == "feature store"
    assert "7 terms" in describe(dataset.folder)["features"]["lexical"]


def test_new_texts_are_weighed_as_those_of_the_store(dataset: Dataset) -> None:
    store = encoded(dataset)
    new = store.transform(["Red silk shirt 5ml", None, "nothing known", "ÉTÉ"])
    assert new.dtype == np.float32
    np.testing.assert_array_equal(new[0].toarray(), store.matrix[1].toarray())
    assert np.diff(new.indptr).tolist() == [5, 0, 0, 1]


def test_words_that_many_items_have_are_left_out() -> None:
    assert LexicalOptions().most_items(30) == 100
    assert LexicalOptions().most_items(10_000) == 500
    assert LexicalOptions(max_df=0.2).most_items(10_000) == 2000


def test_a_common_word_is_left_out(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palate.features.lexical_store._FEW", 3)
    assert "red" not in encoded(dataset).vocabulary["term"].to_list()  # four of eight items have it


def test_characters_find_what_words_do_not(dataset: Dataset) -> None:
    store = encoded(dataset, options=LexicalOptions(analyzer="char"), store="char")
    assert store.encoder == "tf-idf-char"
    assert store.transform(["sockets"]).nnz == 0  # "sock" is in one item only
    assert store.transform(["shirts"]).nnz > 0
    assert "--analyzer char" in store.info["encoder"]["command"]


def test_a_store_is_made_once_and_replaced_when_that_is_chosen(dataset: Dataset, capsys) -> None:
    first = encoded(dataset)
    assert encoded(dataset).fingerprint == first.fingerprint
    assert "up to date" in capsys.readouterr().err
    with pytest.raises(PalateError, match="exists already"):
        encoded(dataset, without="red")
    assert encoded(dataset, without="(?i)red", overwrite=True).fingerprint != first.fingerprint


def test_rows_follow_a_catalogue_in_another_order(dataset: Dataset) -> None:
    store = encoded(dataset)
    frame = dataset.catalogue.frame[[6, 4, 0]]
    other = LexicalStore.load(store.folder, Catalogue(frame))
    assert other.present.tolist() == [False, True, False, True]
    np.testing.assert_array_equal(other.matrix[3].toarray(), store.matrix[1].toarray())
    assert other.table["item_id"].to_list() == ["i7", "i5", "i1"]


def test_a_changed_text_and_a_new_item_make_it_stale(dataset: Dataset) -> None:
    store = encoded(dataset)
    changed = dataset.catalogue.frame.with_columns(title=pl.col("title").str.replace("sock", "socks"))
    with pytest.raises(PalateError, match=r"the text of item 'i8' has changed.*encode .*--lexical .*--overwrite"):
        LexicalStore.load(store.folder, Catalogue(changed))
    new = dataset.catalogue.frame[[0]].with_columns(item_id=pl.lit("i9"))
    with pytest.raises(PalateError, match="lacks 1 item, such as 'i9'"):
        LexicalStore.load(store.folder, Catalogue(pl.concat([dataset.catalogue.frame, new])))


@pytest.mark.parametrize("name", ["matrix.safetensors", "vocabulary.parquet", "items.parquet", "present.npy"])
def test_a_damaged_store_is_refused(dataset: Dataset, name: str) -> None:
    store = encoded(dataset)
    path = store.folder / name
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(PalateError, match=r"damaged.*--lexical"):
        LexicalStore.load(store.folder, dataset.catalogue)


def test_a_vocabulary_of_another_store_is_refused(dataset: Dataset) -> None:
    store = encoded(dataset)
    store.vocabulary.head(3).write_parquet(store.folder / "vocabulary.parquet")
    with pytest.raises(PalateError, match="do not fit together"):
        LexicalStore.load(store.folder, dataset.catalogue)


def test_a_partial_store_is_refused(dataset: Dataset) -> None:
    store = encoded(dataset)
    info = json.loads((store.folder / "store.json").read_text())
    (store.folder / "store.json").write_text(json.dumps({**info, "complete": False}))
    with pytest.raises(PalateError, match="not complete"):
        LexicalStore.load(store.folder, dataset.catalogue)


def test_words_and_vectors_are_not_taken_for_each_other(dataset: Dataset) -> None:
    with pytest.raises(PalateError, match="holds words"):
        FeatureStore.load(encoded(dataset).folder, dataset.catalogue)


def test_texts_without_a_common_term_are_refused(dataset: Dataset) -> None:
    assert dataset.folder is not None
    with pytest.raises(PalateError, match="no term is in the texts of 2 items"):
        encode_lexical(dataset, dataset.folder, fields=["item_id"])
    with pytest.raises(PalateError, match="no field 'colour'"):
        encode_lexical(dataset, dataset.folder, fields=["colour"])
    assert not (dataset.folder / "features").exists()


def test_the_command(dataset: Dataset, palate) -> None:
    code, out, _ = palate("encode", dataset.folder, "--lexical", "--fields", "title", "--json")
    assert code == 0
    assert json.loads(out)["stores"][0]["encoder"] == "tf-idf-word"
    assert palate("encode", dataset.folder, "--lexical", "--analyzer", "char", "--store", "char")[0] == 0
    assert "terms" in palate("encode", dataset.folder, "--lexical", "--fields", "title")[1]
    code, _, error = palate("encode", dataset.folder, "--text", "minilm", "--analyzer", "char")
    assert (code, "--analyzer belongs to --lexical" in error) == (2, True)
    code, _, error = palate("encode", dataset.folder, "--lexical", "--text", "minilm", "--store", "x")
    assert (code, "one store" in error) == (2, True)
    code, _, error = palate("encode", dataset.folder, "--lexical", "--analyzer", "words", "--store", "x")
    assert (code, "analyzer" in error) == (2, True)


def test_neighbours_are_shown(dataset: Dataset, palate) -> None:
    encoded(dataset)
    code, out, _ = palate("neighbours", dataset.folder, "i2", "--source", "lexical", "--k", 2, "--json")
    assert code == 0
    shown = json.loads(out)
    assert [row["item"] for row in shown["neighbours"]["lexical"]] == ["i1", "i7"]
    assert shown["title"] == "Red silk scarf"
    code, out, _ = palate("neighbours", dataset.folder, "i5")
    assert code == 0
    assert "co-occurrence" in out
    assert "No neighbours by" in out
    code, _, error = palate("neighbours", dataset.folder, "I5")
    assert (code, "Did you mean 'i5'" in error) == (2, True)
    code, _, error = palate("neighbours", dataset.folder, "i5", "--source", "lexicl")
    assert (code, "Did you mean 'lexical'" in error) == (2, True)
    code, _, error = palate("neighbours", dataset.folder, "i5", "--source", "lexical,lexical")
    assert (code, "each once" in error) == (2, True)
