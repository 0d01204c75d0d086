"""Filters against plain Python that does the same slowly."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.data import filters
from palate.data.filters import Filters
from palate.data.log import Log
from palate.errors import PalateError

Row = tuple[int, int, int, int]  # user, item, time, rating
ROWS = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 8), st.integers(0, 5), st.integers(1, 5)), min_size=1, max_size=60
)

few = settings(max_examples=60, deadline=None)


def log_of(rows: list[Row], timed: bool = True) -> Log:
    users, items, times, ratings = (np.array(column) for column in zip(*rows, strict=True))
    return Log(
        users.astype(np.uint32),
        items.astype(np.uint32),
        pl.Series([f"u{i}" for i in range(7)]),
        pl.Series([f"i{i}" for i in range(9)]),
        times.astype(np.int64) if timed else None,
        ratings.astype(np.float32),
    )


def pairs(log: Log) -> list[tuple[str, str]]:
    return [(log.user_ids[int(u)], log.item_ids[int(i)]) for u, i in zip(log.users, log.items, strict=True)]


@few
@given(ROWS, st.integers(1, 4), st.integers(1, 4))
def test_core_is_the_fixed_point(rows: list[Row], users_least: int, items_least: int) -> None:
    expected = list(rows)
    while True:
        users, items = Counter(r[0] for r in expected), Counter(r[1] for r in expected)
        kept = [r for r in expected if users[r[0]] >= users_least and items[r[1]] >= items_least]
        if kept == expected:
            break
        expected = kept
    found = filters.core(log_of(rows), users_least, items_least)
    assert list(zip(found.users.tolist(), found.items.tolist(), strict=True)) == [(r[0], r[1]) for r in expected]


def test_one_pass_of_the_core_is_not_enough() -> None:
    # u2 leaves with i8, which takes i3 below two, which takes u1 below two ...
    rows = [(0, 0), (0, 1), (1, 2), (1, 3), (2, 3), (2, 8), (3, 0), (3, 1), (4, 2)]
    found = filters.core(log_of([(u, i, 0, 1) for u, i in rows]), 2, 2)
    assert sorted(pairs(found)) == [("u0", "i0"), ("u0", "i1"), ("u3", "i0"), ("u3", "i1")]


@few
@given(ROWS)
def test_order_is_by_user_then_time_then_file(rows: list[Row]) -> None:
    found = filters.in_order(log_of(rows), "file", seed=0)
    expected = sorted(rows, key=lambda row: (row[0], row[2]))
    assert found.timestamps is not None
    assert list(zip(found.users, found.items, found.timestamps, strict=True)) == [row[:3] for row in expected]


@few
@given(ROWS)
def test_without_times_the_order_is_the_files(rows: list[Row]) -> None:
    found = filters.in_order(log_of(rows, timed=False), "file", seed=0)
    expected = sorted(rows, key=lambda row: row[0])
    assert list(zip(found.users, found.items, strict=True)) == [row[:2] for row in expected]


def test_ties_by_seed_mix_equal_times_only_and_repeat() -> None:
    rows = [(0, item % 9, item // 9, 1) for item in range(27)]
    found = [filters.in_order(log_of(rows), "seed", seed) for seed in (0, 0, 1)]
    for log in found:
        assert log.timestamps is not None
        assert (np.diff(log.timestamps) >= 0).all()
        for start in (0, 9, 18):
            assert sorted(log.items[start : start + 9].tolist()) == list(range(9))
    assert found[0].items.tolist() == found[1].items.tolist() != found[2].items.tolist()
    assert found[0].items.tolist() != [row[1] for row in rows]


def test_ties_by_seed_need_times() -> None:
    with pytest.raises(PalateError, match="no times"):
        filters.in_order(log_of([(0, 0, 0, 1)], timed=False), "seed", 0)


@few
@given(ROWS, st.booleans())
def test_duplicates_keep_the_first_or_the_last(rows: list[Row], first: bool) -> None:
    ordered = sorted(rows, key=lambda row: (row[0], row[2]))
    found = filters.drop_duplicates(filters.in_order(log_of(rows), "file", 0), first)
    seen: dict[tuple[int, int], int] = {}
    for place, row in enumerate(ordered):
        if not first or row[:2] not in seen:
            seen[row[:2]] = place
    expected = [ordered[place] for place in sorted(seen.values())]
    assert found.timestamps is not None
    assert found.weights is not None
    assert list(zip(found.users, found.items, found.timestamps, found.weights, strict=True)) == expected


@few
@given(ROWS, st.integers(1, 8), st.integers(0, 3))
def test_max_users_draws_whole_users(rows: list[Row], most: int, seed: int) -> None:
    found = filters.max_users(log_of(rows), most, seed)
    chosen = set(found.users.tolist())
    assert len(chosen) == min(most, len({row[0] for row in rows}))
    assert pairs(found) == pairs(log_of([row for row in rows if row[0] in chosen]))
    assert chosen == set(filters.max_users(log_of(rows), most, seed).users.tolist())


def test_max_users_depends_on_the_seed() -> None:
    rows = [(user, 0, 0, 1) for user in range(7)]
    drawn = {tuple(filters.max_users(log_of(rows), 3, seed).users.tolist()) for seed in range(20)}
    assert len(drawn) > 1


@few
@given(
    ROWS,
    st.integers(0, 4),
    st.integers(0, 4),
    st.sampled_from(["first", "last", "none"]),
    st.one_of(st.none(), st.integers(1, 5)),
)
def test_records_add_up_and_what_is_asked_holds(
    rows: list[Row], k: int, least: int, duplicates: Any, rating: int | None
) -> None:
    options = Filters(k_core=k, min_history=least, duplicates=duplicates, min_rating=rating)
    raw = log_of(rows)
    try:
        log, records = filters.apply(raw, options, None, seed=0)
    except PalateError as error:
        assert "leaves no interaction" in str(error)  # noqa: PT017 - hypothesis also makes logs that survive
        return
    count = raw.counts()
    for record in records:
        assert record["before"] == count
        count = record["after"]
    users, items = log.user_counts(), log.item_counts()
    assert count == log.counts() == {"users": len(users), "items": len(items), "interactions": len(log)}
    assert users.min() >= max(k, least, 1)
    assert items.min() >= max(k, 1)
    if duplicates != "none":
        assert len(set(pairs(log))) == len(log)
    if rating is not None:
        assert log.weights is not None
        assert log.weights.min() >= rating


def test_missing_items_leave_before_histories_are_counted() -> None:
    rows = [(0, 0, 0, 1), (0, 1, 1, 1), (1, 0, 0, 1), (1, 2, 1, 1)]
    known = pl.Series(["i0", "i1"])
    log, records = filters.apply(log_of(rows), Filters(missing_items="drop", min_history=2), known, 0)
    # Without i2, u1 has one interaction only.
    assert pairs(log) == [("u0", "i0"), ("u0", "i1")]
    assert [record["step"] for record in records] == ["missing-items", "duplicates", "min-history"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (Filters(missing_items="drop"), "no catalogue"),
        (Filters(k_core=50), "k-core"),
        (Filters(min_history=50), "min-history"),
        (Filters(min_rating=6), "min-rating"),
    ],
)
def test_what_cannot_be_is_refused(options: Filters, words: str) -> None:
    with pytest.raises(PalateError, match=words):
        filters.apply(log_of([(0, 0, 0, 5), (1, 1, 1, 5)]), options, None, 0)


def test_min_rating_needs_ratings() -> None:
    log = log_of([(0, 0, 0, 5)])
    bare = Log(log.users, log.items, log.user_ids, log.item_ids, None, None)
    with pytest.raises(PalateError, match="no ratings"):
        filters.apply(bare, Filters(min_rating=3), None, 0)
