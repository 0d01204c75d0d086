"""Semantic ids: items that are alike begin alike, no two are the same, and what is absent is dealt out."""

from __future__ import annotations

import numpy as np
import pytest
from feature_helpers import random_store, store_of

from palate.errors import PalateError
from palate.features.semantic_ids import SemanticIds, quantised


def clustered(clusters: int, each: int, width: int = 6, seed: int = 0) -> np.ndarray:
    """Vectors ``[1 + clusters * each, width]``: cluster after cluster, far apart."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(clusters, width)) * 5
    rows = np.repeat(centres, each, axis=0) + rng.normal(size=(clusters * each, width)) * 0.05
    return np.concatenate([np.zeros((1, width)), rows]).astype(np.float32)


def test_items_that_are_alike_begin_alike() -> None:
    made = SemanticIds.of({"text": store_of(clustered(4, 20))}, levels=3, size=4, whiten=6)
    assert made.codes.shape == (81, 4)
    assert not made.codes[0].any()
    first = made.codes[1:, 0].reshape(4, 20)
    assert (first == first[:, :1]).all()
    assert len(set(first[:, 0])) == 4


def test_no_two_items_have_the_same_codes_and_all_are_below_the_size() -> None:
    vectors = clustered(10, 30)
    vectors[1:6] = vectors[1]  # five items that only the last code can tell apart
    made = SemanticIds.of({"text": store_of(vectors)}, levels=3, size=8, whiten=6)
    assert len(np.unique(made.codes[1:], axis=0)) == 300
    assert made.codes.min() == 0
    assert made.codes.max() < 8
    assert len(np.unique(made.codes[1:6, :-1], axis=0)) == 1
    assert sorted(made.codes[1:6, -1]) == sorted(set(made.codes[1:6, -1]))
    facts = made.facts()
    assert facts["largest"] >= 5
    assert 5 / 300 <= facts["shared"] <= 1
    assert [used >= perplexity >= 1 for used, perplexity in zip(facts["used"], facts["perplexity"], strict=True)]


def test_the_seed_decides_and_nothing_else() -> None:
    stores = {"text": random_store(200, 8)}
    one, same, other = (SemanticIds.of(stores, 2, 16, 8, seed).codes for seed in (0, 0, 1))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_several_stores_are_joined() -> None:
    texts = clustered(2, 20, seed=1)  # items 1..20 and 21..40
    pictures = texts[[0, *range(1, 41, 2), *range(2, 41, 2)]]  # 1..10 and 21..30, and the others
    made = SemanticIds.of({"text": store_of(texts), "image": store_of(pictures)}, levels=3, size=4, whiten=1)
    kinds = made.codes[1:, 0].reshape(4, 10)
    assert (kinds == kinds[:, :1]).all()
    assert len(set(kinds[:, 0])) == 4


def test_items_without_content_are_dealt_out_over_the_last_level() -> None:
    absent = range(1, 31)
    made = SemanticIds.of({"text": random_store(120, 8, absent=absent)}, levels=2, size=16, whiten=8)
    assert len(np.unique(made.codes[1:], axis=0)) == 120
    without = made.codes[list(absent)]
    assert len(np.unique(without[:, :-2], axis=0)) == 1  # the mean, so far
    assert len(np.unique(without[:, 1])) > 1  # no more than 16 of them fit below one prefix
    assert made.facts()["largest"] <= 16


def test_more_alike_than_the_codes_can_tell_apart_is_an_error() -> None:
    vectors, known = np.zeros((90, 4), np.float32), np.ones(90, np.bool_)
    vectors[:10] = np.random.default_rng(0).normal(size=(10, 4))
    with pytest.raises(PalateError, match="items look the same"):
        quantised(vectors, known, levels=1, size=4, seed=0)


def test_no_content_at_all_is_an_error() -> None:
    with pytest.raises(PalateError, match="no item has this feature"):
        SemanticIds.of({"text": random_store(5, 4, absent=range(1, 6))}, 2, 4, 4)
