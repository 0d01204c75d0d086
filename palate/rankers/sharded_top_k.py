"""The best items of a catalogue whose vectors are divided among the workers of an engine.

Every worker holds the vectors of some items, gets all histories, and answers with the best of its own items; the best
of all are among these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from palate.data.sequences import Sequences
from palate.engines.base import Advance, Engine, Task, Work, no_progress
from palate.recommender import Shard
from palate.topk import merged

if TYPE_CHECKING:
    from palate.rankers.recommend import Recommendations

# Items and their scores, best first: ``[B, k]`` each.
Best = tuple[Tensor, Tensor]


def sharded_top_k(
    engine: Engine,
    load: Callable[..., Recommendations],
    shards: int,
    histories: Iterable[Sequences],
    k: int,
    folders: tuple[Path, ...] = (),
    advance: Advance = no_progress,
) -> Iterator[Best]:
    """The ``k`` best items of each history, as :meth:`Recommendations.best` finds them in the whole catalogue.

    Args:
        load: opens the recommendations of one part of the items, its argument ``shard``; it holds paths and options.
        histories: in batches; one answer for each.
        folders: that every worker must see under the same path.

    Raises:
        PalateError: fewer workers than shards, and what loading raises.
    """
    batches = list(histories)
    tasks = [TopKTask(partial(load, shard=Shard(index, shards)), k, folders) for index in range(shards)]
    with engine.divided(tasks) as workers:
        # The first shard reports progress: the others are never more than a few batches from it.
        found = (
            one.map(batches, no_progress if number else advance, ordered=True) for number, one in enumerate(workers)
        )
        for parts in zip(*found, strict=True):
            yield merged([best for _, best in parts], k)


class TopKTask(Task[Sequences, Best]):
    """:meth:`Recommendations.best` for many histories.

    Args:
        load: gives the recommendations.
    """

    def __init__(self, load: Callable[[], Recommendations], k: int, folders: tuple[Path, ...]) -> None:
        self._load, self._k, self.folders = load, k, folders

    def open(self) -> Work[Sequences, Best]:
        """Load the run."""
        return _Finding(self._load(), self._k)


class _Finding(Work[Sequences, Best]):
    def __init__(self, ready: Recommendations, k: int) -> None:
        self._ready, self._k = ready, k
        self.facts = ready.recommender.num_items

    def __call__(self, pieces: Iterator[Sequences], advance: Advance) -> Iterator[Best]:
        for histories in pieces:
            items, scores = self._ready.best(histories, self._k)
            yield items.cpu(), scores.to("cpu", torch.float32)
            advance(len(histories))
