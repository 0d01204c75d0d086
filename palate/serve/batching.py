"""Micro-batching without waiting: while a model works, requests gather; what has gathered is its next batch.

A request that is alone, of a model that answers in a few milliseconds, is answered in the event loop: handing it to a
thread and back would cost a tenth of the whole. What arrives meanwhile waits in its sockets, is read all at once, and
makes a batch. The first request after a batch of several goes to the thread, so that the others are read meanwhile.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Generic, TypeVar

Ask = TypeVar("Ask")
Answer = TypeVar("Answer")


# Seconds of the processor for which a request that is alone may hold the event loop: other routes wait for it.
_QUICK = 0.003
# How much longer it may take by the clock: a busy machine makes no model slow, but one that waits for a GPU or for
# another server takes no time of the processor.
_WAITING = 5


class Overloaded(Exception):
    """Too many requests wait already."""


class MicroBatcher(Generic[Ask, Answer]):
    """Collects single requests into batches for a function that runs on a thread of its own.

    A lone request starts at once. There is no timer to tune: under load the batches grow by themselves, up to
    ``max_batch``, because one batch is worked on at a time.

    Args:
        work: answers a batch, in order.
        pool: where ``work`` runs; of one thread, so that batches follow one another.
        max_waiting: requests that may wait; one more raises :class:`Overloaded`.
        watch: called with the size of every batch.
        turn: held by whoever works for this model, if others do too. With it, quick requests that are alone are
            answered in the event loop.
    """

    def __init__(
        self,
        work: Callable[[list[Ask]], Sequence[Answer]],
        pool: Executor,
        max_batch: int = 64,
        max_waiting: int = 1024,
        watch: Callable[[int], None] | None = None,
        turn: threading.Lock | None = None,
    ) -> None:
        self._work, self._pool, self._watch, self._turn = work, pool, watch, turn
        self._alone_seconds = float("inf")  # of the last request that was answered alone
        self._size_before = 1  # of the last batch: after a full one more requests are on their way
        self.max_batch, self.max_waiting = max_batch, max_waiting
        self._waiting: deque[tuple[Ask, asyncio.Future[Answer]]] = deque()
        self._worker: asyncio.Task[None] | None = None

    async def __call__(self, ask: Ask) -> Answer:
        """The answer to one request.

        Raises:
            Overloaded: too many wait already.
        """
        if len(self._waiting) >= self.max_waiting:
            raise Overloaded
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((ask, answer))
        if self._worker is None:
            self._worker = loop.create_task(self._run())
        return await answer

    async def _run(self) -> None:
        """Work until nobody waits. Nothing runs between requests, so an old model needs no closing to be forgotten."""
        loop = asyncio.get_running_loop()
        try:
            while batch := self._next():
                if self._watch is not None:
                    self._watch(len(batch))
                await self._answer(loop, batch)
        finally:
            self._worker = None

    def _next(self) -> list[tuple[Ask, asyncio.Future[Answer]]]:
        batch: list[tuple[Ask, asyncio.Future[Answer]]] = []
        while self._waiting and len(batch) < self.max_batch:
            ask, answer = self._waiting.popleft()
            if not answer.done():  # the caller may have given up
                batch.append((ask, answer))
        return batch

    async def _answer(self, loop: asyncio.AbstractEventLoop, batch: list[tuple[Ask, asyncio.Future[Answer]]]) -> None:
        before, self._size_before = self._size_before, len(batch)
        try:
            asks = [ask for ask, _ in batch]
            answers = self._here(asks) if before == 1 else None
            if answers is None:
                answers = await loop.run_in_executor(self._pool, self._there, asks)
        except Exception as error:
            if len(batch) > 1:  # one bad request must not spoil its neighbours
                for one in batch:
                    await self._answer(loop, [one])
                return
            if not batch[0][1].done():
                batch[0][1].set_exception(error)
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)

    def _here(self, asks: list[Ask]) -> Sequence[Answer] | None:
        """Answer in the event loop, where that is quick and nobody else waits or works for the model; else None."""
        quick = len(asks) == 1 and not self._waiting and self._alone_seconds < _QUICK
        if self._turn is None or not quick or not self._turn.acquire(blocking=False):
            return None
        try:
            return self._timed(asks)
        finally:
            self._turn.release()

    def _there(self, asks: list[Ask]) -> Sequence[Answer]:
        """Answer on the thread of the pool."""
        if self._turn is None:
            return self._work(asks)
        with self._turn:
            return self._timed(asks)

    def _timed(self, asks: list[Ask]) -> Sequence[Answer]:
        if len(asks) > 1:
            return self._work(asks)
        self._alone_seconds = float("inf")  # should it fail, nobody knows how long the next one takes
        busy, started = time.thread_time(), time.perf_counter()
        answers = self._work(asks)
        self._alone_seconds = max(time.thread_time() - busy, (time.perf_counter() - started) / _WAITING)
        return answers
