"""Examples as batches: like lengths together, in an order that depends on the seed and the epoch alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from palate.mllm.finetune.examples import Examples
from palate.mllm.lm.chat_model import ChatModel

# Examples are shuffled, cut into stretches of this many steps, and sorted by length within each: enough disorder for
# the gradient, little enough padding.
_STRETCH = 32
_ORDER = 0x73667400


class LengthBuckets(Sampler[int]):
    """Rows in training order; every ``size`` of them in turn make a step.

    A run that resumes in the middle of an epoch meets the rest of the same order: nothing is drawn from a global
    generator.

    Args:
        lengths: about how long each row is.
        size: rows per step, over all devices.
        epoch: returns the number of the epoch that begins.
    """

    def __init__(self, lengths: Sequence[int], size: int, seed: int, epoch: Callable[[], int]) -> None:
        self.lengths, self.size, self.seed, self.epoch = np.asarray(lengths), size, seed, epoch

    def __len__(self) -> int:
        return len(self.lengths)

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
            yield from rng.permutation(steps[step]).tolist()


class Collator:
    """From row numbers to tensors: chats are written, encoded and padded when their turn comes."""

    def __init__(self, model: ChatModel, examples: Examples) -> None:
        self.model, self.examples = model, examples
        self.dtype = model.core.dtype

    def __call__(self, rows: Sequence[Mapping[str, int]]) -> dict[str, Tensor]:
        """The model's arguments with ``labels``, which are the answers' tokens alone."""
        pairs = [self.examples[int(row["row"])] for row in rows]
        batch = self.model.collate([self.model.encode(chat, answer) for chat, answer in pairs], labels=True)
        # Pictures come in fp32 from every processor; not every vision tower casts them itself.
        return {
            name: value.to(self.dtype) if torch.is_floating_point(value) else value for name, value in batch.items()
        }
