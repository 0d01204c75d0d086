"""Ragged sequences with times: whatever takes rows or items takes their times along."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from worlds import clocked, ring

from palate.data.dataset import Dataset, Part
from palate.data.sequences import NO_TIME, Sequences

ROWS = Sequences.from_lists([[3, 1], [], [2, 5, 4]])
TIMED = ROWS.at([[30, 10], None, [20, 50, 40]], [31, None, 41])


def clock(rows: Sequences) -> list[list[int]]:
    assert rows.times is not None
    return replace(rows, values=rows.times).to_lists()  # type: ignore[arg-type]


def asked(rows: Sequences) -> list[int]:
    assert rows.asked is not None
    return rows.asked.tolist()


def test_times_stay_with_their_items() -> None:
    for rows in (TIMED, TIMED.take([2, 0, 2]), TIMED[1:], TIMED[::-1], TIMED.last(2), TIMED.only(TIMED.values > 2)):
        assert clock(rows) == [[10 * item for item in row] for row in rows.to_lists()]
    assert asked(TIMED.take([2, 0, 2])) == [41, 31, 41]
    assert asked(TIMED[1:]) == [NO_TIME, 41]
    assert asked(TIMED[::-1]) == [41, NO_TIME, 31]
    assert asked(TIMED.last(1)) == asked(TIMED.only(TIMED.values > 2)) == asked(TIMED)
    assert TIMED.only(TIMED.values > 2).to_lists() == [[3], [], [5, 4]]


def test_rows_without_times_have_none() -> None:
    for rows in (ROWS.take([1]), ROWS[1:], ROWS.last(1), ROWS.only(ROWS.values > 2), ROWS.at([None] * 3, [5, 5, 5])):
        assert rows.times is rows.asked is None
    some = ROWS.at([[7, 8], None, None])
    assert clock(some) == [[7, 8], [], [NO_TIME] * 3]
    assert some.asked is None


def test_equal_rows_have_equal_keys() -> None:
    twice = Sequences.from_lists([[1, 2], [1, 2], [2, 1]])
    first, again, other = twice.row_keys()
    assert first == again != other
    first, again, other = twice.at([[5, 6], [5, 7], [5, 6]]).row_keys()
    assert first != again
    first, again, other = twice.at([[5, 6], [5, 6], [5, 6]], [7, 8, 7]).row_keys()
    assert first != again != other


def test_cases_are_asked_when_their_first_target_was_taken() -> None:
    data = clocked(asked=True, users=5)
    assert data.timestamps is not None
    cases = data.cases("test")
    assert asked(cases.histories) == data.timestamps[data.parts == Part.TEST].tolist()
    assert cases.targets.times is cases.targets.asked is None
    assert clock(cases.histories) == [data.timestamps[data.rows_user == user][:-1].tolist() for user in range(5)]
    assert asked(cases.take([3]).histories) == asked(cases.histories)[3:4]
    for plain in (data.cases("test", times=False), ring(users=5).cases("test")):
        assert plain.histories.times is plain.histories.asked is None


def test_training_loads_times_on_request() -> None:
    data: Dataset = clocked(asked=True, users=5)
    assert data.train_sequences().times is None
    timed = data.train_sequences(times=True)
    assert data.timestamps is not None
    assert timed.times is not None
    assert np.array_equal(timed.times, data.timestamps[data.parts == Part.TRAIN])
    assert data.sequences.times is data.timestamps
