"""iALS against the library that finds the factors, and what it refuses."""

import sys

import numpy as np
import pytest
import torch
from worlds import random_logs

from palate.errors import PalateError
from palate.features.co_occurrence import history_matrix
from palate.rankers.ials import IALS, IALSConfig

als = pytest.importorskip("implicit.als")


@pytest.fixture(scope="module")
def dataset():
    return random_logs(users=50, items=30, repeats=True, timestamps=True)


def test_histories_are_solved_as_the_library_solves_users(dataset):
    config = IALSConfig(factors=6, l2=0.3, alpha=4.0, iterations=3)
    model = IALS.fit(dataset, config)
    library = als.AlternatingLeastSquares(factors=6, regularization=0.3, alpha=4.0, use_gpu=False, num_threads=1)
    library.item_factors = model.items.numpy()
    histories = dataset.cases("test").histories
    users = history_matrix(histories, dataset.num_items + 1)
    users.data[:] = 1.0
    expected = library.recalculate_user(np.arange(len(histories)), users) @ library.item_factors.T
    np.testing.assert_allclose(model.score(histories)[:, 1:], expected[:, 1:], rtol=1e-3, atol=1e-4)


def test_the_same_seed_finds_the_same_factors_and_what_was_taken_scores_higher(dataset):
    one, again, other = (IALS.fit(dataset, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.items, again.items)
    assert not torch.equal(one.items, other.items)
    rows = dataset.train_sequences()
    scores = one.score(rows)
    taken = np.zeros(scores.shape, dtype=bool)
    for flags, items in zip(taken, rows, strict=True):
        flags[items] = True
    assert scores[torch.from_numpy(taken)].mean() > scores[:, 1:][torch.from_numpy(~taken[:, 1:])].mean() + 0.3


def test_newcomers_are_answered_by_popularity(dataset):
    model = IALS.fit(dataset, IALSConfig(factors=4, iterations=1))
    assert model.score([[]])[0, 1:].tolist() == dataset.train_counts[1:].tolist()
    assert model.score([]).shape == (0, dataset.num_items + 1)


def test_without_the_library_the_remedy_is_named(dataset, monkeypatch):
    monkeypatch.setitem(sys.modules, "implicit.als", None)
    with pytest.raises(PalateError, match="needs the package 'implicit'"):
        IALS.fit(dataset)
