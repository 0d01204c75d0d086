"""A batch of which every worker has a part: what the workers agree on before a step."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch

from palate.runs.workers import Workers
from palate.training.batches import Windows


class WholeBatch(NamedTuple):
    """What the workers agree on.

    Attributes:
        targets: of all workers.
        share: see :class:`palate.objectives.Batch`.
        weights: float64 ``[T]`` of this worker's targets, whose mean over all workers is 1, or None.
        save: whether a checkpoint is due.
    """

    targets: float
    share: float
    weights: npt.NDArray[np.float64] | None
    save: bool

    @classmethod
    def agreed(cls, windows: Windows, half_life: float, late: bool, workers: Workers) -> Self:
        """The batch of which ``windows`` are this worker's part; all workers call it together.

        Args:
            half_life: later interactions of a user after which a target counts half; 0: all count alike.
            late: whether a checkpoint is due by this worker's clock; that of the first one decides.
        """
        own = float(len(windows.targets)) if windows.counted else 0.0
        weights = np.exp2(-windows.ages / half_life) if half_life else None
        mass = own if weights is None or not windows.counted else float(weights.sum())
        facts = torch.tensor([own, mass, float(late and workers.main)], dtype=torch.float64)
        targets, mass, save = workers.total(facts).tolist()
        if weights is not None:
            weights = weights / (mass / targets)
        return cls(targets, own * workers.count / targets, weights, save > 0)
