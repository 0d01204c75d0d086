"""Which lines a log gets of long work, by a clock that the test moves."""

from __future__ import annotations

import sys

import pytest

from palate import progress
from palate.progress import counter, say, track, working
from palate.progress.lines import Lines
from palate.progress.pace import Pace


class Log:
    """Lines with a clock of their own; ``wait`` looks as often as the thread would."""

    def __init__(self) -> None:
        self.now = 0.0
        self.written: list[str] = []
        self.lines = Lines(self.written.append, lambda: self.now, watched=False)

    def pace(self, description: str, total: int | None = None) -> Pace:
        return Pace(description, total, clock=lambda: self.now)

    def wait(self, seconds: float) -> None:
        for _ in range(round(2 * seconds)):
            self.now += 0.5
            self.lines.look()


@pytest.fixture
def log() -> Log:
    return Log()


def test_short_work_writes_nothing(log: Log) -> None:
    pace = log.pace("Ranking", 10)
    log.lines.begin(pace)
    log.wait(2)
    log.lines.end(pace)
    assert log.written == []


def test_the_first_line_comes_soon_and_the_others_every_five_seconds(log: Log) -> None:
    pace = log.pace("Ranking", 30)
    log.lines.begin(pace)
    for _ in range(20):
        log.wait(1)
        pace.advance()
    log.lines.end(pace)
    assert log.written == [
        "Ranking: 2/30 (6%), 1.0/s, 28 s left",
        "Ranking: 7/30 (23%), 1.0/s, 22 s left",
        "Ranking: 12/30 (40%), 1.0/s, 18 s left",
        "Ranking: 17/30 (56%), 1.0/s, 12 s left",
        "Ranking: 20/30, 20 s in all",
    ]


def test_a_day_of_work_fits_on_a_few_pages(log: Log) -> None:
    pace = log.pace("Training", 100_000)
    log.lines.begin(pace)
    for _ in range(24 * 3600):
        log.wait(1)
        pace.advance()
    log.lines.end(pace)
    assert 200 < len(log.written) < 500


def test_a_step_of_minutes_is_mentioned_now_and_then(log: Log) -> None:
    pace = log.pace("Steps", 3)
    log.lines.begin(pace)
    log.wait(60)
    assert log.written == [f"Steps: 0/3 (0%), {seconds} s so far" for seconds in (2, 22, 42)]


def test_nested_work_is_shown_with_what_it_is_part_of(log: Log) -> None:
    outer = log.pace("Trials", 3)
    log.lines.begin(outer)
    outer.advance()
    log.wait(1)
    inner = log.pace("Ranking", 100)
    log.lines.begin(inner)
    log.wait(1)
    inner.advance(40)
    log.wait(1)
    inner.advance(40)
    log.wait(2)
    assert log.written[0] == "Trials: 1/3 (33%), 2 s so far"  # the inner work is too young to speak of
    log.wait(20)
    assert log.written[1].startswith("Trials 1/3 > Ranking: 80/100 (80%), 40/s")
    log.lines.end(inner)
    assert log.written[2].startswith("Trials 1/3 > Ranking: 80/100, ")
    log.lines.end(outer)
    assert log.written[3].startswith("Trials: 1/3, ")


def test_many_short_pieces_are_one_long_work(log: Log) -> None:
    for number in range(30):
        pace = log.pace(f"Neighbours {number}", 1)
        log.lines.begin(pace)
        log.wait(1)
        log.lines.end(pace)
    assert 4 <= len(log.written) <= 7


def test_generators_that_end_in_another_order(log: Log) -> None:
    first, second = log.pace("first", 1), log.pace("second", 1)
    log.lines.begin(first)
    log.lines.begin(second)
    log.lines.end(first)
    log.wait(3)
    assert log.written == ["second: 0/1 (0%), 2 s so far"]
    log.lines.end(second)


def test_a_last_batch_that_is_smaller_is_not_counted_beyond_the_total(monkeypatch: pytest.MonkeyPatch) -> None:
    paces: list[Pace] = []
    monkeypatch.setattr(progress.LINES, "begin", paces.append)
    monkeypatch.setattr(progress.LINES, "end", lambda pace, closing: None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    assert list(track(range(3), "Ranking", total=25, weight=10)) == [0, 1, 2]
    assert paces[0].done == 25
    with counter("Encoding", 10, done=4) as advance:
        advance(3)
    assert paces[1].done == 7


def test_quiet_and_other_workers_say_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("nobody wants to know")

    monkeypatch.setattr(progress.LINES, "begin", refuse)
    for name, value in (("PALATE_QUIET", "1"), ("RANK", "1")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert list(track(range(3), "Ranking")) == [0, 1, 2]
            with working("Reading"), counter("Encoding", 3) as advance:
                advance(1)
            say("epoch 1")
    assert capsys.readouterr().err == ""


def test_work_goes_on_where_nobody_reads_its_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        def isatty(self) -> bool:
            return False

        def write(self, text: str) -> int:
            raise BrokenPipeError

        def flush(self) -> None: ...

    monkeypatch.setattr(sys, "stderr", Closed())
    say("epoch 1")
