"""Hands pieces to Ray actors, a few at a time, and those of lost actors to others."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from palate.console import print_note
from palate.engines.base import Advance, Piece, Result, Workers, no_progress
from palate.engines.ray_cluster import require_ray
from palate.errors import PalateError

# Pieces under way per worker: one that is being done, and one that waits beside it.
_PER_WORKER = 2
# Results per worker that may wait for an earlier one.
_EARLY = 4
# How often one piece may be lost, and how many workers in a row may die while they start.
_LOSSES = 3
_NOTE_SECONDS = 60.0


@dataclass(eq=False)
class _Actor:
    """An actor, and what it has been handed."""

    handle: Any
    starting: Any  # until it has started
    pieces: dict[Any, int] = field(default_factory=dict)


class RayPool(Workers[Piece, Result]):
    """Actors that have opened a task.

    Args:
        start: makes an actor; gives it and the reference of its facts.
        count: of actors.
    """

    def __init__(self, start: Callable[[], tuple[Any, Any]], count: int) -> None:
        self._ray = require_ray()
        self._start, self._count = start, count
        self._actors: list[_Actor] = []
        self._started = False
        self._failed_starts = 0
        for _ in range(count):
            self._add()

    def wait_for_first(self) -> None:
        """Wait until one actor has opened the task.

        Raises:
            PalateError: it could not.
        """
        while not self._started:
            self._wait()

    def map(
        self, pieces: Iterable[Piece], advance: Advance = no_progress, *, ordered: bool = False
    ) -> Iterator[tuple[int, Result]]:
        """See :meth:`Workers.map`."""
        source = enumerate(pieces)
        under_way: dict[int, Piece] = {}
        lost: deque[int] = deque()
        losses: Counter[int] = Counter()
        early: dict[int, Result] = {}
        expected = 0
        while True:
            while (actor := self._free()) is not None:
                if not lost:
                    if len(under_way) + len(early) >= self._count * (_PER_WORKER + _EARLY):
                        break
                    if (new := next(source, None)) is None:
                        break
                    under_way[new[0]] = new[1]
                    lost.append(new[0])
                number = lost.popleft()
                actor.pieces[actor.handle.run.remote(under_way[number])] = number
            if not under_way:
                return
            for number, answer in self._wait():
                if answer is None:
                    losses[number] += 1
                    if losses[number] > _LOSSES:
                        raise PalateError(
                            f"workers died {losses[number]} times while they did one piece of the work",
                            "They may lack memory: give smaller batches or fewer --workers. See the logs of Ray.",
                        )
                    lost.append(number)
                    continue
                del under_way[number]
                result, things = answer
                advance(things)
                if not ordered:
                    yield number, result
                    continue
                early[number] = result
                while expected in early:
                    yield expected, early.pop(expected)
                    expected += 1

    def close(self) -> None:
        """End the actors."""
        for actor in self._actors:
            self._kill(actor)
        self._actors.clear()

    def _add(self) -> None:
        self._actors.append(_Actor(*self._start()))

    def _free(self) -> _Actor | None:
        """The started actor with the fewest pieces, if it has room."""
        started = [actor for actor in self._actors if actor.starting is None]
        least = min(started, key=lambda actor: len(actor.pieces), default=None)
        return least if least is not None and len(least.pieces) < _PER_WORKER else None

    def _wait(self) -> list[tuple[int, tuple[Result, int] | None]]:
        """Wait for the next event: numbers of pieces that are done with their results, or with None where lost."""
        by_ref = {ref: actor for actor in self._actors for ref in (actor.starting, *actor.pieces) if ref is not None}
        refs = list(by_ref)
        ready, _ = self._ray.wait(refs, num_returns=1, timeout=_NOTE_SECONDS)
        while not ready:
            if all(actor.starting is not None for actor in self._actors):
                print_note("Waiting for the cluster to start a worker ...")
            ready, _ = self._ray.wait(refs, num_returns=1, timeout=_NOTE_SECONDS)
        return self._settle(by_ref[ready[0]], ready[0])

    def _settle(self, actor: _Actor, ref: Any) -> list[tuple[int, tuple[Result, int] | None]]:
        from ray.exceptions import RayError, RayTaskError

        starting = ref == actor.starting
        try:
            value = self._ray.get(ref)
        except RayTaskError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, PalateError):
                raise PalateError(cause.message, cause.remedy) from None
            _check_packages(error)
            raise
        except RayError as error:
            return self._lose(actor, starting, error)
        if not starting:
            return [(actor.pieces.pop(ref), value)]
        actor.starting = None
        self._failed_starts = 0
        if self._started and value != self.facts:
            raise PalateError(
                f"the workers differ: one opened {value}, another {self.facts}",
                "Put the same model on every machine.",
            )
        self._started, self.facts = True, value
        return []

    def _lose(self, actor: _Actor, starting: bool, error: Exception) -> list[tuple[int, tuple[Result, int] | None]]:
        """Put another actor in the place of one that died; its pieces are lost."""
        self._actors.remove(actor)
        self._kill(actor)
        if starting:
            _check_packages(error)
            self._failed_starts += 1
            if self._failed_starts > _LOSSES:
                why = " ".join(str(error).split())[:300]
                raise PalateError(
                    f"workers die while they start ({why})",
                    "They may lack memory: give fewer --workers. See the logs of Ray.",
                ) from None
        self._add()
        return [(number, None) for number in actor.pieces.values()]

    def _kill(self, actor: _Actor) -> None:
        try:
            self._ray.kill(actor.handle, no_restart=True)
        except Exception as error:  # it is gone, or the connection is; nothing depends on it
            del error


def _check_packages(error: Exception) -> None:
    """Say which package a worker lacks, where that is the error."""
    missing = re.search(r"No module named '([\w.]+)'", str(error))
    if missing:
        raise PalateError(
            f"a worker has no package '{missing[1]}'", "Install the same packages on every machine of the cluster."
        ) from None
