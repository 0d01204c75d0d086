"""EASE: optimality of its weights, scores, and what it refuses."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from worlds import random_logs

from palate.errors import PalateError
from palate.rankers import ease
from palate.rankers.ease import EASE, EASEConfig


@pytest.fixture(scope="module")
def dataset():
    return random_logs(users=50, items=30, repeats=True, timestamps=True)


def test_the_weights_are_optimal_under_a_diagonal_of_zeros(dataset):
    model = EASE.fit(dataset, EASEConfig(l2=3.0))
    users = np.zeros((dataset.num_users, dataset.num_items + 1))
    for row, items in zip(users, dataset.train_sequences(), strict=True):
        row[items] = 1
    weights = model.weights.double().numpy()
    assert not weights.diagonal().any()
    gradient = users.T @ (users @ weights - users) + 3.0 * weights
    np.fill_diagonal(gradient, 0)  # a weight on the diagonal is not free
    np.testing.assert_allclose(gradient, 0, atol=1e-4)
    assert np.abs(weights).max() > 0.1


def test_scores_add_up_the_weights_of_the_history_by_age(dataset):
    model = EASE.fit(dataset, EASEConfig(history_half_life=2.0))
    expected = 0.5 * model.weights[4] + 0.5**0.5 * model.weights[9] + model.weights[4]
    torch.testing.assert_close(model.score([[4, 9, 4]])[0, 1:], expected[1:])
    as_published = EASE.fit(dataset, EASEConfig(history_half_life=0))
    expected = as_published.weights[4] + as_published.weights[9]
    torch.testing.assert_close(as_published.score([[9, 4]])[0, 1:], expected[1:])
    assert torch.equal(model.score([[]])[0, 1:], torch.from_numpy(dataset.train_counts[1:].astype(np.float32)))


def test_catalogues_that_are_too_large_are_refused_before_any_work(dataset, monkeypatch):
    monkeypatch.setattr(ease, "LARGEST_GB", 1e-6)
    with pytest.raises(PalateError, match="matrices of items x items"):
        EASE.fit(dataset)


def test_weights_of_another_shape_are_refused(dataset, tmp_path):
    EASE.fit(dataset).save(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({**tensors, "weights": tensors["weights"][:, 1:].contiguous()}, tmp_path / "model.safetensors")
    with pytest.raises(PalateError, match="holds no weights of 30 items"):
        EASE.load(tmp_path)
