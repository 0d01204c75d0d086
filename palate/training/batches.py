"""Which sequences make each step: a pure function of the seed and the epoch, so that a run can resume anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
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
        targets = np.maximum(self.sequences.lengths - 1, 0)
        starts = self.sequences.offsets[:-1]
        width = self.max_length
        # The first window of a long sequence has 1..width targets, the others width, the last what is left.
        if self.fixed:
            cut = (targets - 1) % width + 1
        else:
            cut = np.random.default_rng([self.seed, epoch, 1]).integers(1, width + 1, len(targets))
        first = np.where(targets > width, cut, targets)
        pieces = np.where(targets > 0, 1 + -(-(targets - first) // width), 0)
        owner = np.repeat(np.arange(len(targets)), pieces)
        number = np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        begin = np.where(number == 0, 0, first[owner] + (number - 1) * width)
        end = np.minimum(first[owner] + number * width, targets[owner])
        return starts[owner] + begin, end - begin

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
        values = self.sequences.values
        order = np.random.default_rng([self.seed, epoch, 2]).permutation(len(starts))
        ends = self.sequences.offsets[1:][np.searchsorted(self.sequences.offsets, starts, side="right") - 1]
        for first in range(skip * self.batch_size, len(order), self.batch_size):
            batch = order[first : first + self.batch_size]
            rows = batch[share::shares]
            counted = len(rows) > 0
            if not counted:
                rows = batch[:1]
            lengths = counts[rows]
            offsets = np.concatenate([[0], np.cumsum(lengths)])
            index = np.arange(offsets[-1]) + np.repeat(starts[rows] - offsets[:-1], lengths)
            ages = np.repeat(ends[rows], lengths) - index - 2
            yield Windows(Sequences(values[index], offsets), values[index + 1].astype(np.int64), ages, index, counted)
