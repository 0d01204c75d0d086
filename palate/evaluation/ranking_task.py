"""Ranks targets by the workers of an engine: the same batches as in one process, so the same ranks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from palate.data.dataset import Cases
from palate.data.sequences import offsets_of
from palate.engines.base import Advance, Engine, Task, Work, Workers
from palate.evaluation.budget import MEMORY_MB, cases_at_once
from palate.evaluation.candidates import Candidates
from palate.evaluation.ranking import rank_targets, ranking_order
from palate.evaluation.ranks import Ranks
from palate.progress import counter
from palate.rankers.registry import load_recommender
from palate.recommender import Recommender
from palate.runs.run import Run

# Batches per piece.
_BATCHES = 4


# :func:`rank_targets`, or what does the same.
RankTargets = Callable[..., Ranks]


@dataclass(frozen=True)
class RankingPiece:
    """Consecutive cases in the order of :func:`ranking_order`, and the options of :func:`rank_targets`."""

    cases: Cases
    candidates: Candidates | None
    options: dict[str, Any]


RankedPiece = tuple[Ranks, dict[str, float]]


@dataclass(frozen=True)
class RankingTask(Task[RankingPiece, RankedPiece]):
    """Ranks cases by the model of a run.

    Attributes:
        run: its folder.
        data: folder of the dataset, if it has one.
        device: where the model answers.
    """

    run: Path
    data: Path | None
    device: str
    folders: tuple[Path, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "folders", (self.run,) if self.data is None else (self.run, self.data))

    def open(self) -> Work[RankingPiece, RankedPiece]:
        """Load the model."""
        recommender = load_recommender(Run.open(self.run), device=self.device)
        if self.data is not None:
            recommender.set_data_folder(self.data)
        return _Ranking(recommender)


class _Ranking(Work[RankingPiece, RankedPiece]):
    def __init__(self, recommender: Recommender) -> None:
        self._recommender = recommender
        self.facts = recommender.num_items

    def __call__(self, pieces: Iterator[RankingPiece], advance: Advance) -> Iterator[RankedPiece]:
        for piece in pieces:
            before = self._recommender.cost()
            ranks = rank_targets(self._recommender, piece.cases, candidates=piece.candidates, **piece.options)
            spent = {name: value - before.get(name, 0) for name, value in self._recommender.cost().items()}
            advance(len(piece.cases))
            yield ranks, spent


class WorkersRanking:
    """:func:`rank_targets` by workers.

    The recommender that it is called with only says how many items there are; its ``cost()`` is what the workers'
    models have cost.
    """

    def __init__(self, workers: Workers[RankingPiece, RankedPiece]) -> None:
        self._workers = workers
        self._spent: defaultdict[str, float] = defaultdict(float)

    def cost(self) -> dict[str, float]:
        """Counters of all workers' models so far."""
        return dict(self._spent)

    def __call__(
        self,
        recommender: Recommender,
        cases: Cases,
        *,
        candidates: Candidates | None = None,
        batch_size: int | None = None,
        memory_mb: int = MEMORY_MB,
        description: str | None = None,
        **options: Any,
    ) -> Ranks:
        order = ranking_order(cases, recommender.num_items)
        batch = cases_at_once(recommender, batch_size, memory_mb, sampled=candidates is not None)
        size = batch * _BATCHES  # whole batches: the scores of a case may differ in their last bits between batches
        options = {**options, "batch_size": batch, "memory_mb": memory_mb}

        def pieces() -> Iterator[RankingPiece]:
            for start in range(0, len(order), size):
                some = cases.take(order[start : start + size])
                yield RankingPiece(some, None if candidates is None else candidates.of(some), options)

        parts: list[Ranks] = []
        with counter(description or "Ranking", len(cases)) as advance:
            for _, (ranks, spent) in self._workers.map(pieces(), advance, ordered=True):
                parts.append(ranks)
                for name, value in spent.items():
                    self._spent[name] += value
        return joined(parts).take(np.argsort(order))


@contextmanager
def ranking_by(engine: Engine, run: Run, data: Path | None, device: str) -> Iterator[RankTargets]:
    """What ranks cases by the model of a run: :func:`rank_targets` in this process, or an engine's workers."""
    if engine.in_process:
        yield rank_targets
        return
    with engine.workers(RankingTask(run.folder, data, device)) as workers:
        yield WorkersRanking(workers)


def joined(parts: list[Ranks]) -> Ranks:
    """The cases of all parts, in order; at least one part."""
    lists = [part.lists for part in parts if part.lists is not None]
    return replace(
        parts[0],
        values=np.concatenate([part.values for part in parts]),
        items=np.concatenate([part.items for part in parts]),
        offsets=offsets_of(np.concatenate([part.num_targets for part in parts])),
        num_candidates=np.concatenate([part.num_candidates for part in parts]),
        lists=np.concatenate(lists) if lists else None,
    )
