"""Ending a training early: Ctrl-C pressed twice at a terminal, and requests in the run's folder."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from palate.cli.shared import ending
from palate.runs import manual_stop
from palate.runs.manual_stop import AskTwice, asking_twice, finish_requested, forget_request, request_finish


@pytest.fixture
def usual() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def terminal(usual: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for stream in (sys.stdin, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)


def sleeps(monkeypatch: pytest.MonkeyPatch, sleep: Callable[[float], object]) -> None:
    """How the module waits, and it alone: a thread of another test that sleeps in the meantime would send a signal."""
    monkeypatch.setattr(manual_stop, "time", SimpleNamespace(sleep=sleep))


def test_pressed_twice_it_is_answered(terminal: None, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    sleeps(monkeypatch, lambda seconds: signal.raise_signal(signal.SIGINT))
    with asking_twice(lambda: "Enough?", shown.append) as asked:
        signal.raise_signal(signal.SIGINT)
        assert asked.answered
        assert shown == ["Enough?", "Ending: the best epoch is kept. (Ctrl-C now interrupts at once.)"]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_pressed_once_it_interrupts(terminal: None, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    sleeps(monkeypatch, waited.append)
    with asking_twice(lambda: "Enough?", lambda line: None) as asked:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert not asked.answered
    assert waited == [manual_stop.SECONDS]


def test_it_interrupts_at_once_where_a_second_press_means_nothing(
    terminal: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeps(monkeypatch, lambda seconds: pytest.fail("it waits"))
    with asking_twice(lambda: None, lambda line: None), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_without_a_terminal_ctrl_c_stays_what_it_is(usual: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False)
    with asking_twice(lambda: "Enough?", lambda line: None):
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_scheduler_s_signal_is_not_asked(terminal: None) -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        ending.end_like_ctrl_c("train")
        with asking_twice(lambda: pytest.fail("it asks"), lambda line: None) as asked:
            assert isinstance(signal.getsignal(signal.SIGINT), AskTwice)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGTERM)
            assert not asked.answered
    finally:
        signal.signal(signal.SIGTERM, before)
        ending._received.clear()


def test_requests(tmp_path: Path) -> None:
    assert not finish_requested(tmp_path)
    request_finish(tmp_path)
    assert finish_requested(tmp_path) == "palate train --finish"
    request_finish(tmp_path, "Ctrl-C")  # the first one stands
    assert finish_requested(tmp_path) == "palate train --finish"
    forget_request(tmp_path)
    forget_request(tmp_path)
    assert not finish_requested(tmp_path)
