"""How fast work goes and what is left of it, by a clock that the test moves."""

from __future__ import annotations

import pytest

from palate.progress.pace import Pace


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_slow_first_step_is_no_part_of_the_estimate(clock: Clock) -> None:
    """A model that loads for a minute and then does ten things per second is not said to need hours."""
    pace = Pace("Encoding", total=1000, clock=clock)
    clock.now += 60
    pace.advance(10)
    assert pace.left() is None
    assert pace.text() == "Encoding: 10/1,000 (1%), 60 s so far"
    for _ in range(4):
        clock.now += 1
        pace.advance(10)
    assert pace.left() == pytest.approx(95)
    assert pace.text() == "Encoding: 50/1,000 (5%), 10/s, 2 min left"


def test_what_an_interrupted_call_did_says_nothing_of_the_speed(clock: Clock) -> None:
    pace = Pace("Encoding", total=1000, done=900, clock=clock)
    for _ in range(5):
        clock.now += 1
        pace.advance(10)
    assert pace.done == 950
    assert pace.speed() == pytest.approx(10)
    assert pace.left() == pytest.approx(5)


def test_the_estimate_follows_the_newest_steps(clock: Clock) -> None:
    pace = Pace("Ranking", total=10_000, clock=clock)
    for seconds in [0.1] * 1000 + [1.0] * 60:  # the later ones are ten times slower
        clock.now += seconds
        pace.advance()
    assert pace.speed() == pytest.approx(1, rel=0.1)


def test_many_fast_steps_are_kept_as_few_moments(clock: Clock) -> None:
    pace = Pace("Reading", total=None, clock=clock)
    for _ in range(100_000):
        clock.now += 0.0001
        pace.advance()
    assert len(pace._moments) < 60
    assert pace.speed() == pytest.approx(10_000, rel=0.01)
    assert pace.text() == "Reading: 100,000, 10,000/s"


def test_a_step_that_hangs_is_not_said_to_be_ready_at_any_moment(clock: Clock) -> None:
    pace = Pace("Steps", total=10, clock=clock)
    for _ in range(9):
        clock.now += 1
        pace.advance()
    clock.now += 0.5
    assert pace.left() == pytest.approx(0.5)
    clock.now += 20
    assert pace.left() == pytest.approx(21.5)


def test_work_without_counts_says_how_long_it_has_lasted(clock: Clock) -> None:
    pace = Pace("Reading the log", clock=clock)
    clock.now += 12
    assert pace.text() == "Reading the log ... 12 s"
    assert pace.end_text() == "Reading the log: 12 s in all"


def test_no_division_by_a_clock_that_stands(clock: Clock) -> None:
    pace = Pace("Steps", total=4, clock=clock)
    pace.advance()
    pace.advance()
    assert pace.speed() is None
    assert pace.text() == "Steps: 2/4 (50%), 0 s so far"
