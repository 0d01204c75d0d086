"""Intervals that cover what they promise, p-values next to scipy's, Holm by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from palate.errors import PalateError
from palate.evaluation.statistics import bootstrap, holm, pair_seeds


def test_one_seed_agrees_with_the_t_interval():
    values = np.random.default_rng(0).exponential(size=(1, 3000))
    one = bootstrap({"x": values})["x"]
    low, high = stats.t.interval(0.95, 2999, values.mean(), stats.sem(values[0]))
    assert one.mean == values.mean()
    np.testing.assert_allclose([one.low, one.high], [low, high], atol=0.12 * (high - low))
    np.testing.assert_allclose(one.error, stats.sem(values[0]), rtol=0.07)


@pytest.mark.parametrize("shift", [0.0, 0.02, 0.04, 0.06])
def test_p_values_are_near_those_of_the_paired_t_test(shift):
    rng = np.random.default_rng(5)
    ours, base = rng.random((2, 1, 500)) + rng.random(500)
    ours = ours - (ours - base).mean() + shift
    p = bootstrap({"d": ours - base}, resamples=8000)["d"].p_value
    assert abs(p - stats.ttest_rel(ours[0], base[0]).pvalue) < 0.03


def test_p_value_and_interval_agree_about_zero():
    rng = np.random.default_rng(2)
    seen = set()
    for shift in np.linspace(0, 0.15, 25):
        one = bootstrap({"d": rng.normal(shift, 1, (1, 800))}, resamples=400)["d"]
        if abs(one.p_value - 0.05) > 0.01:
            assert (one.p_value < 0.05) == (one.low > 0 or one.high < 0)
            seen.add(one.p_value < 0.05)
    assert seen == {True, False}


@pytest.mark.parametrize(("num_seeds", "seed_spread", "least"), [(1, 0.0, 0.91), (3, 0.0, 0.91), (5, 0.03, 0.86)])
def test_intervals_cover_the_truth(num_seeds, seed_spread, least):
    """200 experiments: user and seed effects and noise; the 95% interval must hold the truth about that often.

    With few seeds of large spread no percentile interval reaches its level; that case is allowed a little less.
    """
    rng = np.random.default_rng(7)
    hits = 0
    for trial in range(200):
        users = rng.normal(0, 1, 300)
        seeds = rng.normal(0, seed_spread, (num_seeds, 1))
        values = 5 + users + seeds + rng.normal(0, 0.5, (num_seeds, 300))
        one = bootstrap({"x": values}, seed=trial, resamples=300)["x"]
        hits += one.low <= 5 <= one.high
    assert least <= hits / 200 <= 0.995


def test_seed_spread_widens_the_interval_by_what_it_should():
    rng = np.random.default_rng(1)
    seeds = rng.normal(0, 1, (4, 1))
    values = np.repeat(seeds, 2000, axis=1)  # users alike: all spread is between seeds
    one = bootstrap({"x": values}, resamples=6000)["x"]
    np.testing.assert_allclose(one.error, seeds.std(ddof=1) / 2, rtol=0.06)


def test_the_same_draws_serve_every_figure():
    values = np.random.default_rng(3).random((3, 400))
    found = bootstrap({"a": values, "b": values + 1, "d": (values + 1) - values})
    np.testing.assert_allclose(found["b"].samples - found["a"].samples, found["d"].samples)
    assert found["d"].error < 1e-12


def test_seeded_and_independent_of_block_size(monkeypatch):
    values = np.random.default_rng(3).random((2, 50))
    first = bootstrap({"a": values}, seed=4, resamples=100)["a"].samples
    assert np.array_equal(first, bootstrap({"a": values}, seed=4, resamples=100)["a"].samples)
    assert not np.array_equal(first, bootstrap({"a": values}, seed=5, resamples=100)["a"].samples)
    monkeypatch.setattr("palate.evaluation.statistics._BLOCK", 7)
    np.testing.assert_allclose(first, bootstrap({"a": values}, seed=4, resamples=100)["a"].samples)


def test_a_detectable_effect_is_detected_four_times_in_five():
    rng = np.random.default_rng(11)
    least = bootstrap({"d": rng.normal(0, 1, (1, 400))})["d"].detectable
    found = 0
    for trial in range(150):
        one = bootstrap({"d": rng.normal(least, 1, (1, 400))}, seed=trial, resamples=200)["d"]
        found += one.low > 0
    assert 0.7 <= found / 150 <= 0.9


def test_one_user_has_no_interval_and_none_is_refused():
    one = bootstrap({"x": np.ones((2, 1))})["x"]
    assert np.isnan([one.low, one.high, one.p_value]).all()
    assert one.mean == 1.0
    with pytest.raises(PalateError, match="no user"):
        bootstrap({"x": np.ones((2, 0))})
    with pytest.raises(PalateError, match="same users"):
        bootstrap({"x": np.ones((1, 4)), "y": np.ones((1, 5))})
    assert bootstrap({}) == {}


def test_seeds_are_paired_by_their_number():
    ours, base = np.arange(6.0).reshape(3, 2), 10 * np.arange(6.0).reshape(3, 2)
    difference, common = pair_seeds(ours, [1, 2, 3], base, [3, 1, 7])
    assert common == [1, 3]
    assert difference.tolist() == [(ours[0] - base[1]).tolist(), (ours[2] - base[0]).tolist()]
    difference, common = pair_seeds(ours, [1, 2, 3], base[:1], [0])
    assert common == [1, 2, 3]
    assert np.array_equal(difference, ours - base[0])
    difference, common = pair_seeds(ours[:1], [0], base, [4, 5, 6])
    assert common == [4, 5, 6]
    assert np.array_equal(difference, ours[0] - base)
    difference, common = pair_seeds(ours, [1, 2, 3], base, [4, 5, 6])
    assert common == []
    np.testing.assert_allclose(difference, [ours.mean(0) - base.mean(0)])


def test_holm_by_hand():
    # Sorted: .005*4, .01*3, .03*2, .04*1, never decreasing, at most 1.
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.9, 0.8]), [1.0, 1.0])
    np.testing.assert_allclose(holm([np.nan, 0.02]), [np.nan, 0.02])
    assert holm([]).shape == (0,)


def test_holm_keeps_the_family_error():
    rng = np.random.default_rng(0)
    p = rng.random((4000, 5))  # nothing true
    wrong = np.mean([(holm(row) < 0.05).any() for row in p])
    assert 0.035 < wrong < 0.06
