"""Requests gather while a model works, and none spoils another."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from palate.serve.batching import MicroBatcher, Overloaded


class Gate:
    """Work that waits for a go."""

    def __init__(self) -> None:
        self.go, self.begun = threading.Event(), threading.Event()
        self.batches: list[list[int]] = []

    def __call__(self, asks: list[int]) -> list[int]:
        self.batches.append(asks)
        self.begun.set()
        assert self.go.wait(30)
        if any(ask < 0 for ask in asks):
            raise ValueError(f"{asks} cannot be")
        return [2 * ask for ask in asks]


async def _begun(gate: Gate) -> None:
    await asyncio.get_running_loop().run_in_executor(None, gate.begun.wait, 30)


def _run(test: Callable[[MicroBatcher[int, int], Gate], object], **limits: int) -> None:
    gate = Gate()
    with ThreadPoolExecutor(1) as pool:
        asyncio.run(test(MicroBatcher(gate, pool, **limits), gate))  # type: ignore[arg-type]


def test_what_gathers_meanwhile_is_one_batch() -> None:
    async def test(ask: MicroBatcher[int, int], gate: Gate) -> None:
        first = asyncio.create_task(ask(1))
        await _begun(gate)
        rest = [asyncio.create_task(ask(n)) for n in (2, 3, 4)]
        await asyncio.sleep(0)
        gate.go.set()
        assert await asyncio.gather(first, *rest) == [2, 4, 6, 8]
        assert gate.batches == [[1], [2, 3, 4]]

    _run(test)


def test_batches_stay_within_their_limit() -> None:
    async def test(ask: MicroBatcher[int, int], gate: Gate) -> None:
        gate.go.set()
        assert await asyncio.gather(*(ask(n) for n in range(7))) == [2 * n for n in range(7)]
        assert [len(batch) for batch in gate.batches] == [3, 3, 1]

    _run(test, max_batch=3)


def test_a_bad_request_fails_alone() -> None:
    async def test(ask: MicroBatcher[int, int], gate: Gate) -> None:
        gate.go.set()
        answers = await asyncio.gather(ask(1), ask(-1), ask(3), return_exceptions=True)
        assert (answers[0], answers[2]) == (2, 6)
        assert isinstance(answers[1], ValueError)

    _run(test)


def test_too_many_are_sent_away_and_those_who_left_are_not_served() -> None:
    async def test(ask: MicroBatcher[int, int], gate: Gate) -> None:
        first = asyncio.create_task(ask(1))
        await _begun(gate)
        waiting = [asyncio.create_task(ask(n)) for n in (2, 3)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await ask(4)
        waiting[0].cancel()
        gate.go.set()
        assert await first == 2
        assert await waiting[1] == 6
        assert gate.batches == [[1], [3]]

    _run(test, max_waiting=2)


def test_a_quick_request_that_is_alone_is_answered_in_the_event_loop() -> None:
    threads: list[tuple[int, bool]] = []
    slow = False

    def work(asks: list[int]) -> list[int]:
        if asks == [0]:
            raise ValueError("0 cannot be")
        threads.append((len(asks), threading.current_thread() is threading.main_thread()))
        until = time.thread_time() + (0.01 if slow else 0)
        while time.thread_time() < until:
            pass
        return asks

    async def test() -> None:
        nonlocal slow
        for _ in range(3):
            assert await ask(1) == 1
        assert threads == [(1, False), (1, True), (1, True)]  # the first one tells how long it takes
        with pytest.raises(ValueError, match="0 cannot be"):
            await ask(0)
        with turn:  # somebody else works for the model
            waiting = asyncio.create_task(ask(1))
            await asyncio.sleep(0.01)
            assert not waiting.done()
        await waiting
        await asyncio.gather(ask(1), ask(2))
        for _ in range(2):
            await ask(1)
        assert threads[3:] == [(1, False), (2, False), (1, False), (1, True)]  # after several, more may be on their way
        slow = True
        for _ in range(2):
            await ask(1)
        assert threads[7:] == [(1, True), (1, False)]

    turn = threading.Lock()
    with ThreadPoolExecutor(1) as pool:
        ask = MicroBatcher(work, pool, turn=turn)
        asyncio.run(test())


def test_a_model_that_waits_for_another_server_is_never_asked_in_the_event_loop() -> None:
    here: list[bool] = []

    def work(asks: list[int]) -> list[int]:
        here.append(threading.current_thread() is threading.main_thread())
        time.sleep(0.05)  # takes no time of the processor
        return asks

    async def test() -> None:
        for _ in range(3):
            await ask(1)

    with ThreadPoolExecutor(1) as pool:
        ask = MicroBatcher(work, pool, turn=threading.Lock())
        asyncio.run(test())
    assert not any(here)


def test_of_a_queue_that_is_answered_one_by_one_none_but_the_last_holds_the_event_loop() -> None:
    here: list[bool] = []

    def work(asks: list[int]) -> list[int]:
        here.append(threading.current_thread() is threading.main_thread())
        if asks == [-1]:
            raise ValueError("-1 cannot be")
        return asks

    async def test() -> None:
        await ask(0)
        await asyncio.gather(*(ask(number) for number in range(4)))
        assert here == [False, False, False, False, True]
        with pytest.raises(ValueError, match="-1 cannot be"):
            await ask(-1)
        await ask(0)
        assert here[5:] == [True, False]  # how long the next one takes, a failure has not shown

    with ThreadPoolExecutor(1) as pool:
        ask = MicroBatcher(work, pool, max_batch=1, turn=threading.Lock())
        asyncio.run(test())


def test_it_works_again_after_a_rest_and_in_another_loop() -> None:
    gate = Gate()
    gate.go.set()
    with ThreadPoolExecutor(1) as pool:
        ask = MicroBatcher(gate, pool)
        assert asyncio.run(ask(5)) == 10
        assert asyncio.run(ask(6)) == 12
