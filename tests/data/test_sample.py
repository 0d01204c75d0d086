"""The sample of users: seeded, nested, and the same whatever the split."""

from __future__ import annotations

import numpy as np
import pytest
from worlds import walk

from palate.data.dataset import Dataset
from palate.data.frames import from_frames
from palate.data.sample import sample_users
from palate.errors import PalateError


def shop(split: str = "leave-last-out") -> Dataset:
    log = walk(50, 9, lambda user: 6, time=lambda user, step: 100 * step + user)
    return from_frames(log, timestamp="timestamp", name="shop", split=split)


def test_a_sample_is_seeded_sorted_and_without_repeats() -> None:
    data = shop()
    one, other = sample_users(data, 20, seed=3), sample_users(data, 20, seed=4)
    assert np.array_equal(one, sample_users(data, 20, seed=3))
    assert not np.array_equal(one, other)
    assert one.dtype == np.int64
    assert np.array_equal(one, np.unique(one))
    assert len(one) == 20


def test_a_larger_sample_holds_the_smaller_one_and_the_largest_is_everybody() -> None:
    data = shop()
    assert set(sample_users(data, 7, seed=1)) < set(sample_users(data, 30, seed=1))
    assert np.array_equal(sample_users(data, 50), np.arange(50))
    assert np.array_equal(sample_users(data, 10**9), np.arange(50))


def test_the_split_does_not_choose_the_users() -> None:
    one, other = shop("leave-last-out"), shop("global-time")
    assert not np.array_equal(one.parts, other.parts)
    assert np.array_equal(sample_users(one, 12, seed=5), sample_users(other, 12, seed=5))


def test_no_users_are_refused() -> None:
    with pytest.raises(PalateError, match="a sample of 0 users"):
        sample_users(shop(), 0)
