"""The frozen reference: what the run that alignment starts from says about every training position."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from palate.objectives import Scores
from palate.rankers.packing import PackedBatch
from palate.rankers.sequential import SequentialRanker
from palate.training.batches import TrainingSequences


class Reference:
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
    def scores(self, packed: PackedBatch, places: npt.NDArray[np.int64]) -> Scores:
        """Factored scores after each of the batch's tokens, which stand at ``places`` (int64 ``[T]``) of the log."""
        hidden = self.hidden[torch.from_numpy(places)].to(self.table.device, self.table.dtype)
        return self.ranker.scores_of(hidden, self.table, packed)
