"""Work in threads: in order, a few ahead and never more, with errors where their results would be."""

from __future__ import annotations

import threading

import pytest

from palate.threads import in_threads


def test_results_come_in_order_whichever_is_done_first() -> None:
    second = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            assert second.wait(10)  # so the first thing is done after the second
        if number == 1:
            second.set()
        return number

    assert list(in_threads(work, range(20), threads=2)) == list(range(20))


def test_no_more_than_a_few_are_taken_ahead() -> None:
    taken = 0

    def things():
        nonlocal taken
        for number in range(1000):
            taken += 1
            yield number

    results = in_threads(lambda number: number, things(), threads=2, ahead=5)
    for seen in range(1, 20):
        next(results)
        assert taken <= seen + 5
    results.close()


def test_an_error_comes_where_its_result_would() -> None:
    results = in_threads(lambda number: 1 // number, [2, 1, 0, 3], threads=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
