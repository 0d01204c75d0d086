"""Examples as batches: like lengths together, in an order that depends on the seed and the epoch alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from palate.mllm.finetune.examples import Examples
from palate.mllm.lm.chat_model import IGNORED, ChatModel

# Examples are shuffled, cut into stretches of this many steps, and sorted by length within each: enough disorder for
# the gradient, little enough padding.
_STRETCH = 32
_ORDER = 0x73667400
# Number of a row that nothing is learnt from.
FILLER = -1


class LengthBuckets(Sampler[int]):
    """Rows in training order; every ``size`` of them in turn make a step.

    A run that resumes in the middle of an epoch meets the rest of the same order: nothing is drawn from a global
    generator.

    Several workers take batches in turn. Where the last ones are too few rows for all, the rows are divided, and
    fillers complete each worker's batch: every worker takes as many steps, and no row counts twice.

    Args:
        lengths: about how long each row is.
        size: rows per step, over all workers.
        epoch: returns the number of the epoch that begins.
        batch: rows of one worker at a time.
        workers: how many there are.
        filler: number of the filler.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        size: int,
        seed: int,
        epoch: Callable[[], int],
        *,
        batch: int = 1,
        workers: int = 1,
        filler: int = FILLER,
    ) -> None:
        self.lengths, self.size, self.seed, self.epoch = np.asarray(lengths), size, seed, epoch
        self.batch, self.workers, self.filler = batch, workers, filler

    def __len__(self) -> int:
        if self.workers == 1:
            return len(self.lengths)
        together = self.batch * self.workers
        return -(-len(self.lengths) // together) * together

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng([self.seed, _ORDER, self.epoch()])
        order = rng.permutation(len(self.lengths))
        stretch = self.size * _STRETCH
        parts = [order[start : start + stretch] for start in range(0, len(order), stretch)]
        order = np.concatenate([part[np.argsort(self.lengths[part], kind="stable")] for part in parts])
        steps = [order[start : start + self.size] for start in range(0, len(order), self.size)]
        whole = len(order) // self.size  # a short step at the end stays there, or all others would shift
        shuffled = [*rng.permutation(whole), *range(whole, len(steps))]
        for step in shuffled:
            yield from self._divided(rng.permutation(steps[step]).tolist())

    def _divided(self, rows: list[int]) -> list[int]:
        """The rows of a step, with fillers where the workers' batches need them."""
        over = len(rows) % (self.batch * self.workers) if self.workers > 1 else 0
        if not over:
            return rows
        rest = rows[len(rows) - over :]
        parts = [rest[worker :: self.workers] for worker in range(self.workers)]
        filled = [[*part, *[self.filler] * (self.batch - len(part))] for part in parts]
        return rows[: len(rows) - over] + [row for part in filled for row in part]


def numbers_of(rows: Sequence[Mapping[str, int]]) -> tuple[list[int], bool]:
    """The numbers of a batch without its fillers, and whether anything is learnt from them.

    A batch of fillers alone becomes row 0, so that all workers compute together; nothing is learnt from it.

    >>> numbers_of([{"row": 3}, {"row": FILLER}]), numbers_of([{"row": FILLER}])
    (([3], True), ([0], False))
    """
    numbers = [number for row in rows if (number := int(row["row"])) != FILLER]
    return (numbers, True) if numbers else ([0], False)


class Collator:
    """From row numbers to tensors: chats are written, encoded and padded when their turn comes."""

    def __init__(self, model: ChatModel, examples: Examples) -> None:
        self.model, self.examples = model, examples
        self.dtype = model.core.dtype

    def __call__(self, rows: Sequence[Mapping[str, int]]) -> dict[str, Tensor]:
        """The model's arguments with ``labels``, which are the answers' tokens alone."""
        numbers, learnt = numbers_of(rows)
        pairs = [self.examples[number] for number in numbers]
        batch = self.model.collate([self.model.encode(chat, answer) for chat, answer in pairs], labels=True)
        if not learnt:
            batch["labels"].fill_(IGNORED)
        # Pictures come in fp32 from every processor; not every vision tower casts them itself.
        return {
            name: value.to(self.dtype) if torch.is_floating_point(value) else value for name, value in batch.items()
        }
