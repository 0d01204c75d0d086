"""Controls keep what a model could profit from without looking (width, which items are missing) and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from feature_helpers import build, foretold

from palate.data.catalogue import Catalogue
from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.features.controls import make_control
from palate.features.encode import encode
from palate.features.store import FeatureStore


@pytest.fixture
def made(tmp_path: Path) -> tuple[Dataset, Path, FeatureStore]:
    count = 60
    dataset = build(tmp_path, [f"{n * 'x'} film" for n in range(count - 1)] + [None], [None] * count)
    return dataset, tmp_path / "data", encode(dataset, tmp_path / "data", "text", encoder=foretold("text"))


def test_permuted_has_the_same_vectors_on_other_items(made: tuple[Dataset, Path, FeatureStore]) -> None:
    dataset, path, base = made
    store = make_control(dataset, path, "text", "permuted", seed=3)
    assert store.folder.name == "text-permuted"
    assert store.present.tolist() == base.present.tolist()
    assert sorted(map(tuple, store.vectors.tolist())) == sorted(map(tuple, base.vectors.tolist()))
    assert np.mean((store.vectors == base.vectors).all(axis=1)[base.present]) < 0.2
    again = make_control(dataset, path, "text", "permuted", seed=3, store="again")
    other = make_control(dataset, path, "text", "permuted", seed=4, store="other")
    assert again.vectors.tobytes() == store.vectors.tobytes() != other.vectors.tobytes()
    assert again.fingerprint == store.fingerprint != other.fingerprint


def test_random_depends_on_seed_and_item_alone(made: tuple[Dataset, Path, FeatureStore]) -> None:
    dataset, path, base = made
    store = make_control(dataset, path, "text", "random", seed=1)
    assert store.vectors.shape == base.vectors.shape
    assert store.present.tolist() == base.present.tolist()
    assert not store.vectors[~store.present].any()
    assert np.allclose(np.linalg.norm(store.vectors[store.present], axis=1), 1, atol=1e-5)
    wide = make_control(dataset, path, "text", "random", seed=1, width=200, store="wide")
    assert wide.width == 200
    cosine = wide.vectors[1:60] @ wide.vectors[1:60].T
    assert np.abs(cosine[np.triu_indices(59, 1)]).max() < 0.4  # items are told apart, and none is like another
    frame = dataset.catalogue.frame[::-1]
    backwards = replace(dataset, catalogue=Catalogue(frame, dataset.catalogue.root))
    turned = make_control(backwards, path, "text", "random", seed=1, store="turned")
    assert np.array_equal(turned.vectors[1:], store.vectors[1:][::-1])


def test_mistakes_are_refused(made: tuple[Dataset, Path, FeatureStore]) -> None:
    dataset, path, _ = made
    with pytest.raises(PalateError, match=r"made of the store 'image', which is not there.*--image efficientnet-lite0"):
        make_control(dataset, path, "image", "permuted")
    with pytest.raises(PalateError, match="holds text, not image"):
        make_control(dataset, path, "image", "permuted", of="text")
    with pytest.raises(PalateError, match="would replace the store 'text'"):
        make_control(dataset, path, "text", "permuted", store="text", overwrite=True)
    with pytest.raises(PalateError, match="keeps the width"):
        make_control(dataset, path, "text", "permuted", width=3)
    with pytest.raises(PalateError, match="no control named 'shuffled'"):
        make_control(dataset, path, "text", "shuffled")
    make_control(dataset, path, "text", "random")
    with pytest.raises(PalateError, match="exists already"):
        make_control(dataset, path, "text", "random")
