"""Training on semantic ids: the codes of the next item, each after those before it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from palate.objectives import Batch, Loss
from palate.rankers.packing import PackedBatch


class CodesStep:
    """``-log P(codes of the next item)``: the sum of its codes' cross-entropies (Rajput et al. 2023, section 3.2).

    What a code competes with is the ranker's setting ``softmax``. ``code_1``, ``code_2`` ... in the log are the parts.
    """

    def __call__(
        self, model: nn.Module, packed: PackedBatch, batch: Batch, places: npt.NDArray[np.int64], number: int
    ) -> Loss:
        losses: Tensor = model(packed, batch.targets)
        parts = losses.detach().mean(0).tolist()
        diagnostics = {f"code_{level}": part for level, part in enumerate(parts, start=1)}
        return Loss(batch.mean(losses.sum(1)) * batch.share, diagnostics)
