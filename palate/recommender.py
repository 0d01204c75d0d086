"""The Recommender protocol, which every model implements, from popularity to a multimodal LLM."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from palate.data.sequences import Sequences
from palate.errors import PalateError
from palate.topk import best_items, checked_k, merged

# Scores held at a time when items are recommended (256 MiB of float32), whatever the number of histories.
_SCORES = 2**26
# Where whole rows of fewer histories than this are held at a time (catalogues above 4 million), items are scored in
# blocks for more of them: the vectors of all items would be read anew for each few.
FEW_HISTORIES, HISTORIES_IN_BLOCKS = 16, 256

Histories = Sequences | Sequence[Sequence[int]]

# Scores of some items for the histories that the scorer was made for: a range of item indices, or int64 [n], ascending
# and none twice, to a float32 matrix [B, n] that may be written to.
ItemScorer = Callable[[slice | Tensor], Tensor]


def as_sequences(histories: Histories) -> Sequences:
    """Accept lists of item indices wherever histories are required."""
    return histories if isinstance(histories, Sequences) else Sequences.from_lists(histories)


@dataclass(frozen=True)
class Shard:
    """Which of ``count`` equal parts of a catalogue."""

    index: int
    count: int

    def items(self, num_items: int) -> range:
        """Its items, one after the other: a part of a file is read in one go."""
        first, stop = (1 + num_items * number // self.count for number in (self.index, self.index + 1))
        return range(first, stop)


@dataclass(frozen=True)
class ItemShard:
    """The items whose scores a model has, where a catalogue is divided: one that joins nothing with others.

    Attributes:
        items: int64 ``[n]``, ascending, without the padding.
        index: the number of this process among those that join what they find.
        count: how many they are.
    """

    items: Tensor
    index: int = 0
    count: int = 1

    @staticmethod
    def part(shard: Shard, num_items: int) -> ItemShard:
        """A part of a catalogue, all of its items in this process."""
        items = shard.items(num_items)
        return ItemShard(torch.arange(items.start, items.stop))

    def each(self, values: Tensor) -> list[Tensor]:
        """The tensors of all processes, in the order of their numbers; they have one shape."""
        return [values]

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes of tensors of one shape."""
        return values

    def best(self, items: Tensor, scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The ``k`` best items of all processes, from the ``k`` best of each: see :func:`palate.topk.merged`."""
        return merged(zip(self.each(items), self.each(scores), strict=True), k)


class Recommender(ABC):
    """Scores items for histories of item indices; needs no training data and no known user.

    Item indices run from 1 to :attr:`num_items`; column 0 of a full score matrix is padding and holds ``-inf``.
    A history may be empty.
    """

    name: ClassVar[str]
    # False: score() refuses candidates=None, so it ranks sampled candidates, or what another model proposes.
    whole_catalogue: ClassVar[bool] = True
    num_items: int
    # How many histories it is best asked for at a time (few for a slow model, so that progress shows); None: no matter.
    batch_size: int | None = None
    # What it scores where it does not have the whole catalogue: item_scorer() then takes these items only, and
    # recommend() gives the best of all that the processes of the shard have, which call both together.
    shard: ItemShard | None = None

    @abstractmethod
    def score(self, histories: Histories, candidates: Tensor | None = None) -> Tensor:
        """Higher is better; only the order within a row means anything.

        Args:
            histories: ``B`` rows of item indices, oldest first.
            candidates: int64 ``[B, C]`` item indices, or None for the whole catalogue.

        Returns:
            float32 ``[B, C]``, or ``[B, num_items + 1]`` for the whole catalogue with column 0 at ``-inf``.

        Raises:
            PalateError: a model that cannot afford the whole catalogue refuses None, with a cost estimate.
        """

    def recommend(
        self,
        histories: Histories,
        k: int,
        exclude_seen: bool = True,
        allowed: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The ``k`` best items per history, best first; equal scores are ordered by item index.

        Args:
            k: At least 1.
            exclude_seen: Leave out the items of the history.
            allowed: bool ``[num_items + 1]``; items that may be recommended (None: all).

        Returns:
            items int64 ``[B, k]`` and scores float32 ``[B, k]``; where fewer than ``k`` items are left, the rest
            are padding: item 0 with score ``-inf``.
        """
        k = checked_k(k)
        rows = as_sequences(histories)
        batch = max(1, _SCORES // (self.num_items + 1))
        if self.shard is not None or (batch < min(FEW_HISTORIES, len(rows)) and self.scores_in_blocks):
            cuts = (
                slice(start, min(start + HISTORIES_IN_BLOCKS, len(rows)))
                for start in range(0, len(rows), HISTORIES_IN_BLOCKS)
            )
            found = [self._recommend_in_blocks(rows[cut], k, exclude_seen, allowed) for cut in cuts] or [_nothing(0, k)]
            return torch.cat([items for items, _ in found]), torch.cat([values for _, values in found])
        parts = []
        for start in range(0, max(len(rows), 1), batch):
            some = rows[start : min(start + batch, len(rows))]
            scores = self.score(some)
            scores[:, 0] = -torch.inf
            if allowed is not None:
                scores[:, ~allowed] = -torch.inf
            if exclude_seen:
                mask_items(scores, some)
            parts.append(best_items(scores, k))
        items, values = zip(*parts, strict=True)
        return torch.cat(items), torch.cat(values)

    def _recommend_in_blocks(
        self, rows: Sequences, k: int, exclude_seen: bool, allowed: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """:meth:`recommend`, the best of one block of items after the other merged into the best so far; with a shard,
        the best of each process merged in the end."""
        scorer = self.item_scorer(rows, 4 * _SCORES)
        seen = torch.from_numpy(rows.values).long()
        owners = torch.repeat_interleave(torch.arange(len(rows)), torch.from_numpy(rows.lengths))
        best: list[tuple[Tensor, Tensor]] = []
        for block in self._blocks(max(1, _SCORES // len(rows))):
            scores = scorer(block)
            index = block if isinstance(block, Tensor) else torch.arange(block.start, block.stop)
            scores[:, index.to(scores.device) == 0] = -torch.inf  # the padding
            if allowed is not None:
                scores[:, ~allowed[index]] = -torch.inf
            if exclude_seen:
                places = torch.searchsorted(index, seen).clamp_max(len(index) - 1)
                here = index[places] == seen
                scores[owners[here].to(scores.device), places[here].to(scores.device)] = -torch.inf
            columns, values = best_items(scores, k)
            best = [merged([*best, (index.to(columns.device)[columns], values)], k)]
        if self.shard is None:
            return best[0]
        return self.shard.best(*(best[0] if best else _nothing(len(rows), k)), k)

    def _blocks(self, step: int) -> Iterator[slice | Tensor]:
        """All items, or those of the shard, ``step`` at a time."""
        if self.shard is not None:
            yield from torch.split(self.shard.items, step) if len(self.shard.items) else ()
            return
        for start in range(0, self.num_items + 1, step):
            yield slice(start, min(start + step, self.num_items + 1))

    @property
    def reads_times(self) -> bool:
        """Whether scores depend on the times of a history (:attr:`palate.data.sequences.Sequences.times`); a model
        that reads them answers without them, too."""
        return False

    @property
    def scores_in_blocks(self) -> bool:
        """Whether :meth:`item_scorer` is there: the scores of a few items cost less than those of all."""
        return False

    def item_scorer(self, histories: Histories, memory: int) -> ItemScorer:
        """What scores one block of items after the other for the same histories, as :meth:`score` would at once.

        Args:
            memory: bytes that may be kept, beside the model, from one block to the next.
        """
        raise NotImplementedError(f"'{self.name}' scores whole rows only")

    def set_data_folder(self, folder: Path) -> None:  # noqa: B027
        """Set the folder of the histories' dataset, for a model that reads more there than it holds itself."""

    def check_ready(self, histories: Histories) -> None:  # noqa: B027
        """Check before long work: refuse what :meth:`score` would refuse for some of these histories.

        Raises:
            PalateError: what is missing, and how to have it.
        """

    def allow_generation(self) -> None:  # noqa: B027
        """Let the model prepare what it lacks for a new history, which may take long; evaluation does not allow it."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the model into an existing folder: ``config.json`` and ``*.safetensors``, never a pickle."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, device: str = "cpu") -> Self:
        """Read what :meth:`save` wrote."""

    @classmethod
    def load_shard(cls, folder: Path, shard: Shard, device: str = "cpu") -> Self:
        """The same with what it needs to score this part of the items only, as its attribute :attr:`shard` says.

        Raises:
            PalateError: a model of which no part can be loaded.
        """
        raise PalateError(f"the ranker '{cls.name}' cannot be divided by items", "Leave out --shards.")

    def cost(self) -> dict[str, float]:
        """What its scores have cost so far: ``prompts``, ``tokens``, ``seconds``; empty where nothing is counted."""
        return {}

    def describe(self) -> dict[str, Any]:
        """Facts for reports and model cards (number of parameters, modalities, coverage ...)."""
        return {"name": self.name, "num_items": self.num_items}


def _nothing(rows: int, k: int) -> tuple[Tensor, Tensor]:
    """Answers where no items are left: padding."""
    return torch.zeros(rows, k, dtype=torch.int64), torch.full((rows, k), -torch.inf)


def mask_items(scores: Tensor, rows: Sequences, value: float = -torch.inf) -> None:
    """Set ``scores[b, i] = value`` in place for every item ``i`` of row ``b``."""
    users = torch.repeat_interleave(torch.arange(len(rows)), torch.from_numpy(rows.lengths))
    scores[users.to(scores.device), torch.from_numpy(rows.values).long().to(scores.device)] = value
