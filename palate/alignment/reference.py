"""The frozen reference: what the run that alignment starts from says about every training position."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from palate.alignment.random_state import RandomState
from palate.objectives import Scores
from palate.rankers.packing import PackedBatch
from palate.rankers.sequential import SequentialRanker
from palate.training.batches import TrainingSequences


class Reference(Protocol):
    """Answers for a frozen ranker."""

    def scores(self, packed: PackedBatch, places: npt.NDArray[np.int64], state: RandomState | None) -> Scores:
        """Factored scores after each of the batch's tokens.

        Args:
            places: int64 ``[T]``, where the tokens stand in the training log.
            state: of the random draws of the policy's forward, where it had dropout.
        """


class CachedReference:
    """Scores of a frozen ranker, in eval mode, from hidden states that are computed once.

    What it keeps is one hidden state a training position and one vector an item: no features, no second encoder at
    work. The windows of ``data`` must be fixed, so that a position's context never changes.

    Args:
        ranker: as trained; it is not changed.
        data: the fixed windows.
        dtype: of the kept states; float16 halves the memory of very large logs.
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

    Costs a forward of the encoder a step, without gradients. The features are the policy's own, held once.

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
