"""A backend whose models are in the workers of an engine, each of which answers a few requests at a time."""

from __future__ import annotations

import inspect
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from palate.engines.base import Advance, Engine, Task, Work, Workers
from palate.mllm.backends import BACKENDS, open_backend
from palate.mllm.backends.base import Backend, Check, Done, ModelRequest, Reply

# Requests per piece, in batches of the model; one batch where a backend has no such size.
_BATCHES, _REQUESTS = 2, 8
# Of a server: as many as keep it busy while the last ones are waited for, and enough to see that it is not there.
_ROUNDS, _LEAST = 4, 16


@dataclass(frozen=True)
class RequestPiece:
    """Requests, and what makes an answer useless."""

    requests: Sequence[ModelRequest]
    check: Check | None


@dataclass(frozen=True)
class BackendFacts:
    """What an open backend says of itself; see :class:`Backend`."""

    identity: dict[str, Any]
    spec: dict[str, Any] | None
    batch_size: int


@dataclass(frozen=True)
class AnswerTask(Task[RequestPiece, list[Reply]]):
    """Answers requests.

    Attributes:
        load: opens the backend.
        folders: of the pictures that requests show.
    """

    load: Callable[[], Backend]
    folders: tuple[Path, ...] = ()

    def open(self) -> Work[RequestPiece, list[Reply]]:
        """Open the backend."""
        return _Answering(self.load())


class _Answering(Work[RequestPiece, list[Reply]]):
    facts: BackendFacts

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        size = getattr(backend, "batch_size", None)
        if size is None:
            concurrency = getattr(backend, "concurrency", None)
            size = _REQUESTS if concurrency is None else max(_LEAST, _ROUNDS * concurrency)
        self.facts = BackendFacts(backend.identity, backend.spec, int(size))

    def __call__(self, pieces: Iterator[RequestPiece], advance: Advance) -> Iterator[list[Reply]]:
        for piece in pieces:
            replies: list[Reply] = []

            def done(reply: Reply, replies: list[Reply] = replies) -> list[ModelRequest]:
                replies.append(reply)
                return []

            self._backend.work(piece.requests, done, piece.check)
            advance(len(replies))
            yield replies


class WorkersBackend(Backend):
    """Sends requests to workers that have a backend each."""

    def __init__(self, workers: Workers[RequestPiece, list[Reply]]) -> None:
        facts: BackendFacts = workers.facts
        self._workers, self._identity = workers, facts.identity
        self.spec = facts.spec
        self._size = _BATCHES * facts.batch_size

    @property
    def identity(self) -> dict[str, Any]:
        """The identity of the workers' backends, which is one."""
        return self._identity

    def work(self, requests: Iterable[ModelRequest], done: Done, check: Check | None = None) -> None:
        """See :meth:`Backend.work`."""
        source = iter(requests)
        following: deque[ModelRequest] = deque()

        def pieces() -> Iterator[RequestPiece]:
            while True:
                some = [following.popleft() for _ in range(min(len(following), self._size))]
                some += islice(source, self._size - len(some))
                if not some:
                    return
                yield RequestPiece(some, check)

        while True:
            for _, replies in self._workers.map(pieces()):
                for reply in replies:
                    following.extend(done(reply))
            if not following:  # what follows from the last replies is a round of its own
                return


@contextmanager
def backend_by(
    engine: Engine, name: str, model: str | None, folders: tuple[Path, ...] = (), **options: Any
) -> Iterator[Backend]:
    """The backend of a name: in this process, or in the workers of an engine; see :func:`open_backend`.

    Args:
        folders: of the pictures that requests show.

    A backend that takes an ``engine`` has workers of its own on it. One that sends requests to a server does so from
    every worker: a key is read there, from the worker's own environment, and sent nowhere else.
    """
    takes = inspect.signature(BACKENDS[name]).parameters
    if "engine" in takes:
        yield open_backend(name, model, engine=engine, **options)
        return
    if engine.in_process:
        yield open_backend(name, model, **options)
        return
    if "base_url" in takes:
        options["base_url"] = options.get("base_url") or os.environ.get("OPENAI_BASE_URL")
    with engine.workers(AnswerTask(partial(open_backend, name, model, **options), folders)) as workers:
        yield WorkersBackend(workers)
