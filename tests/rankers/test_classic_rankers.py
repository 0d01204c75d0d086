"""Popularity and item-knn against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from worlds import random_logs

from palate.errors import PalateError
from palate.rankers.item_knn import ItemKNN, ItemKNNConfig
from palate.rankers.popularity import Popularity, PopularityConfig


@pytest.fixture(scope="module")
def dataset():
    return random_logs(users=50, items=30, repeats=True, timestamps=True)


def test_popularity_counts_training_only(dataset):
    scores = Popularity.fit(dataset).score([[1], []])
    assert scores[:, 1:].tolist() == [dataset.train_counts[1:].tolist()] * 2


def test_recent_interactions_count_more(dataset):
    half_life = 500.0
    train = dataset.parts == 0
    last = dataset.timestamps[train].max()
    expected = np.zeros(dataset.num_items + 1)
    for item, time in zip(dataset.items[train], dataset.timestamps[train], strict=True):
        expected[item] += 0.5 ** ((last - time) / 86_400_000 / half_life)
    scores = Popularity.fit(dataset, PopularityConfig(half_life_days=half_life)).score([[]])[0]
    np.testing.assert_allclose(scores[1:], expected[1:], rtol=1e-5)


def test_recency_without_times_is_refused():
    with pytest.raises(PalateError, match="has no timestamps"):
        Popularity.fit(random_logs(), PopularityConfig(half_life_days=3))


def naive_similarity(dataset, shrinkage, neighbours):
    users = [set(row.tolist()) for row in dataset.train_sequences()]
    width = dataset.num_items + 1
    similarity = np.zeros((width, width))
    for i in range(1, width):
        for j in range(1, width):
            both = sum(i in row and j in row for row in users)
            either = np.sqrt(sum(i in row for row in users) * sum(j in row for row in users)) + shrinkage
            similarity[i, j] = both / either if i != j and both else 0.0
    for i in range(width):
        order = np.lexsort((np.arange(width), -similarity[i]))
        similarity[i, order[neighbours:]] = 0.0
    return similarity


@pytest.mark.parametrize("shrinkage", [0.0, 10.0])
@pytest.mark.parametrize("block", [7, 512])
def test_similarity_is_the_shrunk_cosine_of_the_nearest(dataset, shrinkage, block, monkeypatch):
    monkeypatch.setattr("palate.features.co_occurrence._BLOCK", block)
    model = ItemKNN.fit(dataset, ItemKNNConfig(neighbours=5, shrinkage=shrinkage))
    np.testing.assert_allclose(model.similarity.toarray(), naive_similarity(dataset, shrinkage, 5), rtol=1e-5)
    assert np.diff(model.similarity.indptr).max() == 5


def test_score_adds_up_the_neighbours_of_the_history_by_age(dataset):
    model = ItemKNN.fit(dataset, ItemKNNConfig(history_half_life=2.0))
    dense = model.similarity.toarray()
    expected = 0.5 * dense[4] + 0.5**0.5 * dense[9] + dense[4]
    np.testing.assert_allclose(model.score([[4, 9, 4]])[0, 1:], expected[1:], rtol=1e-5)


def test_item_knn_answers_newcomers_and_items_without_neighbours_by_popularity(dataset, tmp_path):
    alone = int(np.flatnonzero(dataset.train_counts[1:] == 0)[0]) + 1
    model = ItemKNN.fit(dataset)
    popular = Popularity.fit(dataset).score([[]])[0]
    for one in (model, (model.save(tmp_path), ItemKNN.load(tmp_path))[1]):
        scores = one.score([[], [alone], [4]])
        assert torch.equal(scores[0], popular)
        assert torch.equal(scores[1].argsort(stable=True), popular.argsort(stable=True))
        assert scores[1].max() < 1e-6  # beside other rankers' scores it only breaks ties
        assert not torch.equal(scores[2], popular)
        assert one.score([[]], torch.tensor([[3, 1]])).tolist() == [popular[[3, 1]].tolist()]


def test_an_item_knn_saved_without_counts_still_ranks_newcomers(dataset, tmp_path):
    model = ItemKNN.fit(dataset, ItemKNNConfig(neighbours=30, shrinkage=0))
    model.save(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["counts"]
    save_file(tensors, tmp_path / "model.safetensors")
    earlier = ItemKNN.load(tmp_path)
    assert torch.equal(earlier.score([[4]]), model.score([[4]]))
    best = earlier.score([[]])[0].argmax()
    assert dataset.train_counts[best] >= np.median(dataset.train_counts[1:])
    assert best == model.similarity.sum(axis=0).argmax()


def test_a_history_of_unknown_items_is_refused(dataset):
    model = ItemKNN.fit(dataset)
    with pytest.raises(PalateError, match=r"outside 1\.\.30"):
        model.score([[31]])
    with pytest.raises(PalateError, match="outside"):
        model.score([[0]])


def test_positions_in_a_tampered_file_are_checked_before_use(dataset, tmp_path):
    ItemKNN.fit(dataset).save(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["columns"][0] = 10**6
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(PalateError, match="holds no similarities"):
        ItemKNN.load(tmp_path)


def test_the_wrong_folder_is_refused(dataset, tmp_path):
    Popularity.fit(dataset).save(tmp_path)
    with pytest.raises(PalateError, match="holds no 'item-knn' model"):
        ItemKNN.load(tmp_path)
    tensors = {"counts": torch.zeros(3)}
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(PalateError, match="holds no counts of 30 items"):
        Popularity.load(tmp_path)


def test_an_impossible_option_is_refused():
    with pytest.raises(PalateError, match="neighbours"):
        ItemKNNConfig.parse({"neighbours": 0}, where="--set")
