"""Pure functions of scores: what training minimises. This room knows only torch."""

from palate.objectives.base import Batch, Loss, Objective, Scores
from palate.registry import Registry

OBJECTIVES = Registry(
    "objectives",
    {
        "cross-entropy": "palate.objectives.cross_entropy:CrossEntropy",
        "sampled-softmax": "palate.objectives.sampled_softmax:SampledSoftmax",
        "gbce": "palate.objectives.gbce:GBCE",
        "bpr": "palate.objectives.bpr:BPR",
    },
)

__all__ = ["OBJECTIVES", "Batch", "Loss", "Objective", "Scores"]
