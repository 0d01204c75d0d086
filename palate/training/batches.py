"""Which sequences make each step: a pure function of the seed and the epoch, so that a run can resume anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from palate.data.sequences import Sequences


class Windows(NamedTuple):
    """What one step reads: ``B`` windows with ``T`` inputs in all, none of them padding.

    Attributes:
        inputs: the windows, oldest item first.
        targets: int64 ``[T]``, what came after each input.
        ages: int64 ``[T]``, training interactions that the user had after the target.
        places: int64 ``[T]``, the place of each input among the values of all training sequences.
        counted: False where the batch has no window for this worker: the window is another's, and only there so that
            all workers compute together.
    """

    inputs: Sequences
    targets: npt.NDArray[np.int64]
    ages: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]
    counted: bool = True


@dataclass(frozen=True)
class TrainingSequences:
    """Training sequences cut into windows and shuffled into batches, anew each epoch.

    A user's ``n`` interactions give ``n - 1`` targets, and each is trained on exactly once per epoch. A sequence longer
    than ``max_length + 1`` is cut into windows at a random place, so that a target's context differs between epochs.

    Attributes:
        sequences: one row per user, oldest first.
        max_length: inputs of one window.
        batch_size: windows of one batch, over all workers.
        fixed: cut the same windows every epoch, so that a target's context, and with it a frozen model's scores,
            stay what they were; a user's newest targets are then in a full window.
    """

    sequences: Sequences
    max_length: int
    batch_size: int
    seed: int
    fixed: bool = False

    @property
    def num_targets(self) -> int:
        """Targets of one epoch."""
        return int(np.maximum(self.sequences.lengths - 1, 0).sum())

    def windows(self, epoch: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """First value and number of targets of every window of the epoch; a window has one more value than targets."""
        rng = None if self.fixed else np.random.default_rng([self.seed, epoch, 1])
        owner, begin, counts = cut_windows(self.sequences.lengths, self.max_length, rng)
        return self.sequences.offsets[owner] + begin, counts

    def num_batches(self, epoch: int) -> int:
        return -(-len(self.windows(epoch)[0]) // self.batch_size)

    def batches(self, epoch: int, skip: int = 0, share: int = 0, shares: int = 1) -> Iterator[Windows]:
        """Yield this worker's part of each batch of an epoch: the batches are the same for any number of workers.

        Args:
            skip: batches that were done before an interruption.
            share: of several workers, which one this is; all take as many steps.
            shares: how many workers there are.
        """
        starts, counts = self.windows(epoch)
        order = np.random.default_rng([self.seed, epoch, 2]).permutation(len(starts))
        ends = self.sequences.offsets[1:][np.searchsorted(self.sequences.offsets, starts, side="right") - 1]
        cut = Cut(self.sequences.values, starts, counts, ends, self.sequences.times)
        for first in range(skip * self.batch_size, len(order), self.batch_size):
            yield cut.windows(order[first : first + self.batch_size], share, shares)


@dataclass(frozen=True)
class Cut:
    """Windows of one array of values, not yet taken out of it.

    Attributes:
        values: int32, sequence after sequence.
        starts: int64 ``[windows]``, the first value of each.
        counts: int64 ``[windows]``, targets; a window has one more value.
        ends: int64 ``[windows]``, the end of its sequence.
        times: int64 of the values, see :class:`palate.data.sequences.Sequences`, or None.
    """

    values: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    times: npt.NDArray[np.int64] | None = None

    def windows(self, batch: npt.NDArray[np.int64], share: int, shares: int) -> Windows:
        """A worker's part of a batch of windows; one that is not counted where there are fewer than workers."""
        rows = batch[share::shares]
        counted = len(rows) > 0
        if not counted:
            rows = batch[:1]
        lengths = self.counts[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        index = np.arange(offsets[-1]) + np.repeat(self.starts[rows] - offsets[:-1], lengths)
        ages = np.repeat(self.ends[rows], lengths) - index - 2
        inputs, targets = Sequences(self.values[index], offsets), self.values[index + 1].astype(np.int64)
        if self.times is not None:  # a window's last target is asked for when it was taken, as in an evaluation
            asked = self.times[self.starts[rows] + lengths]
            inputs = replace(inputs, times=self.times[index], asked=asked)
        return Windows(inputs, targets, ages, index, counted)


def cut_windows(
    lengths: npt.NDArray[np.int64], width: int, rng: np.random.Generator | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Cut sequences into windows of at most ``width`` targets.

    Args:
        lengths: of the sequences.
        rng: draws where a long sequence is cut first; None: so that its last window is full.

    Returns:
        Of each window: its sequence, the place of its first value in it, and its number of targets.
    """
    targets = np.maximum(lengths - 1, 0)
    # The first window of a long sequence has 1..width targets, the others width, the last what is left.
    cut = (targets - 1) % width + 1 if rng is None else rng.integers(1, width + 1, len(targets))
    first = np.where(targets > width, cut, targets)
    pieces = np.where(targets > 0, 1 + -(-(targets - first) // width), 0)
    owner = np.repeat(np.arange(len(targets)), pieces)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    begin = np.where(number == 0, 0, first[owner] + (number - 1) * width)
    end = np.minimum(first[owner] + number * width, targets[owner])
    return owner, begin, end - begin
