"""The frozen reference: the scores of the run that alignment starts from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from palate.objectives import Scores
from palate.rankers.packing import PackedBatch
from palate.rankers.sequential import SequentialRanker
from palate.training.batches import TrainingSequences


@dataclass(frozen=True)
class RandomState:
    """The state of torch's global generators, which dropout draws from, on the CPU and on the device of the model.

    >>> state = RandomState.of(torch.device("cpu"))
    >>> first = torch.rand(3)
    >>> with state.replayed():
    ...     again = torch.rand(3)
    >>> torch.equal(first, again)
    True
    """

    cpu: Tensor
    cuda: Tensor | None
    device: torch.device

    @classmethod
    def of(cls, device: torch.device) -> RandomState:
        """The state now."""
        cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        return cls(torch.get_rng_state(), cuda, device)

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """Draw once more what was drawn after the state was taken; afterwards draws go on as if nothing had been."""
        devices = [self.device] if self.cuda is not None else []
        with torch.random.fork_rng(devices=devices):
            torch.set_rng_state(self.cpu)
            if self.cuda is not None:
                torch.cuda.set_rng_state(self.cuda, self.device)
            yield


class Reference(Protocol):
    """Scores of a frozen ranker."""

    def scores(self, packed: PackedBatch, places: npt.NDArray[np.int64], state: RandomState | None) -> Scores:
        """Factored scores after each of the batch's tokens.

        Args:
            places: int64 ``[T]``, of the tokens in the training log.
            state: of the random draws of the policy's forward, where it had dropout.
        """


class CachedReference:
    """Scores of a frozen ranker, in eval mode, from hidden states that are computed once.

    What it keeps is one hidden state per training position and one vector per item: no features, no second
    encoder at work. The windows of ``data`` must be fixed, so that a position's context never changes.

    Args:
        ranker: as trained; it is not changed.
        data: the fixed windows.
        dtype: of the stored states; float16 halves the memory of very large logs.
    """

    def __init__(self, ranker: SequentialRanker, data: TrainingSequences, dtype: torch.dtype = torch.float32) -> None:
        assert data.fixed
        self.ranker = ranker.eval()
        self.table = ranker.table()
        self.width = data.max_length
        # The last value of a user is nobody's input; its row stays empty.
        self.hidden = torch.zeros(len(data.sequences.values), self.table.shape[1], dtype=dtype)
        with torch.no_grad():
            for windows in data.batches(0):
                packed = PackedBatch.of(windows.inputs, self.width, ranker.device)
                states = ranker.encode(self.table.index_select(0, packed.items), packed)
                self.hidden[torch.from_numpy(windows.places)] = states.to("cpu", dtype)

    @torch.no_grad()
    def scores(self, packed: PackedBatch, places: npt.NDArray[np.int64], state: RandomState | None) -> Scores:
        """See :class:`Reference`; nothing is random here."""
        hidden = self.hidden[torch.from_numpy(places)].to(self.table.device, self.table.dtype)
        return self.ranker.scores_of(hidden, self.table, packed)


class ReplayedReference:
    """Scores of a frozen ranker under the very dropout masks that the policy's forward had.

    Costs one forward of the encoder per step, without gradients. The features are the policy's own, held once.

    Args:
        ranker: as trained; it is not changed.
        policy: of the same shape, with its features set.
    """

    def __init__(self, ranker: SequentialRanker, policy: SequentialRanker) -> None:
        for name in ranker.items.features:
            ranker.items.feature(name).share(policy.items.feature(name))
        self.ranker = ranker.train()

    @torch.no_grad()
    def scores(self, packed: PackedBatch, places: npt.NDArray[np.int64], state: RandomState | None) -> Scores:
        """See :class:`Reference`."""
        assert state is not None
        with state.replayed():
            scores: Scores = self.ranker(packed)
            return scores
