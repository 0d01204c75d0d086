"""Training sequences that are read from shards, a block at a time: for logs that memory does not hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from palate.data.sequences import offsets_of
from palate.data.shards import Shards
from palate.training.batches import Cut, Windows, cut_windows

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class StreamedSequences:
    """What :class:`palate.training.batches.TrainingSequences` is for sequences in memory.

    Each epoch the shards are shuffled and joined into blocks of about ``buffer`` interactions, and the windows of a
    block are shuffled; a batch that a block leaves incomplete is completed by the next. All of it is a function of the
    seed, the epoch and the shards, whatever the number of workers, so that a run can resume anywhere. Each worker
    reads all blocks and keeps its part of each batch: reading costs a small part of training.

    Attributes:
        shards: of the dataset.
        max_length: inputs of one window.
        batch_size: windows of one batch, over all workers.
        buffer: interactions in memory at a time.
    """

    shards: Shards
    max_length: int
    batch_size: int
    seed: int
    buffer: int
    _counts: dict[int, Integers] = field(default_factory=dict, compare=False)

    @property
    def num_targets(self) -> int:
        """Targets of one epoch."""
        return int(self.shards.sizes("targets").sum())

    def num_batches(self, epoch: int) -> int:
        return -(-int(self._windows(epoch).sum()) // self.batch_size)

    def batches(self, epoch: int, skip: int = 0, share: int = 0, shares: int = 1) -> Iterator[Windows]:
        """Yield this worker's part of each batch of an epoch; ``places`` are those of a block.

        Args:
            skip: batches that were done before an interruption.
            share: of several workers, which one this is; all take as many steps.
            shares: how many workers there are.
        """
        counts, first = self._windows(epoch), skip * self.batch_size
        seen = 0
        rest: Cut | None = None  # of the block before, fewer than a batch
        for number, shards in enumerate(self.blocks(epoch)):
            size = int(counts[shards].sum())
            if seen + size > first:
                cut = self._block(epoch, number, shards, max(0, first - seen), rest)
                whole = len(cut.starts) // self.batch_size * self.batch_size
                for begin in range(0, whole, self.batch_size):
                    yield cut.windows(np.arange(begin, begin + self.batch_size), share, shares)
                rest = _own(cut, slice(whole, None))
                del cut  # before the next block is read
            seen += size
        if rest is not None and len(rest.starts):
            yield rest.windows(np.arange(len(rest.starts)), share, shares)

    def blocks(self, epoch: int) -> list[Integers]:
        """The shards of each block, in the order of the epoch."""
        order = np.random.default_rng([self.seed, epoch, 4]).permutation(len(self.shards))
        ends = np.cumsum(self.shards.sizes("training")[order])
        return [
            block for block in np.split(order, np.flatnonzero(np.diff((ends - 1) // self.buffer)) + 1) if len(block)
        ]

    def _windows(self, epoch: int) -> Integers:
        """int64 ``[shards]``: the windows of each shard in an epoch."""
        if epoch not in self._counts:
            self._counts.clear()
            counts = [len(self._cut(epoch, n, self.shards.lengths(n))[0]) for n in range(len(self.shards))]
            self._counts[epoch] = np.array(counts, np.int64)
        return self._counts[epoch]

    def _cut(self, epoch: int, shard: int, lengths: Integers) -> tuple[Integers, Integers, Integers]:
        return cut_windows(lengths, self.max_length, np.random.default_rng([self.seed, epoch, 1, shard]))

    def _block(self, epoch: int, number: int, shards: Integers, skip: int, rest: Cut | None) -> Cut:
        """The windows of ``rest`` and those of a block, in their order, without the block's first ``skip``."""
        values = [] if rest is None else [rest.values]
        starts, counts, ends = [], [], []
        base = 0 if rest is None else len(rest.values)
        for shard in shards.tolist():
            sequences = self.shards.training(shard)
            owner, begin, targets = self._cut(epoch, shard, sequences.lengths)
            values.append(sequences.values)
            starts.append(base + sequences.offsets[owner] + begin)
            ends.append(base + sequences.offsets[owner + 1])
            counts.append(targets)
            base += len(sequences.values)
        order = np.random.default_rng([self.seed, epoch, 2, number]).permutation(sum(map(len, starts)))[skip:]
        columns = [np.concatenate(column)[order] for column in (starts, counts, ends)]
        if rest is not None:
            columns = [
                np.concatenate(pair) for pair in zip((rest.starts, rest.counts, rest.ends), columns, strict=True)
            ]
        return Cut(np.concatenate(values), *columns)


def _own(cut: Cut, rows: slice) -> Cut:
    """Some windows with values of their own, so that the others need not stay in memory."""
    starts, counts = cut.starts[rows], cut.counts[rows]
    offsets = offsets_of(counts + 1)
    index = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], counts + 1)
    return Cut(cut.values[index], offsets[:-1], counts, cut.ends[rows] - starts + offsets[:-1])
