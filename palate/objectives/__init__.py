"""Pure functions of scores: what training minimises. This room knows only torch."""

from palate.objectives.base import Batch, Loss, Objective, Scores
from palate.objectives.preference import Pairs, Preference, PreferenceLoss, pair_weights
from palate.registry import Registry

OBJECTIVES: Registry[type[Objective]] = Registry(
    "objectives",
    {
        "cross-entropy": "palate.objectives.cross_entropy:CrossEntropy",
        "sampled-softmax": "palate.objectives.sampled_softmax:SampledSoftmax",
        "gbce": "palate.objectives.gbce:GBCE",
        "bpr": "palate.objectives.bpr:BPR",
    },
)

# Of pairs, chosen against rejected: what alignment minimises.
PREFERENCES: Registry[type[Preference]] = Registry(
    "preferences",
    {
        "dpo": "palate.objectives.dpo:DPO",
        "cdpo": "palate.objectives.cdpo:CDPO",
        "s-dpo": "palate.objectives.s_dpo:SDPO",
        "dmpo": "palate.objectives.dmpo:DMPO",
        "ipo": "palate.objectives.ipo:IPO",
        "simpo": "palate.objectives.simpo:SimPO",
        "hanorec": "palate.objectives.hanorec:HaNoRec",
        "bpr": "palate.objectives.preference_bpr:PairwiseBPR",
        "softmax": "palate.objectives.preference_softmax:PoolSoftmax",
        "bce": "palate.objectives.preference_bce:PointwiseBCE",
    },
)

__all__ = [
    "OBJECTIVES",
    "PREFERENCES",
    "Batch",
    "Loss",
    "Objective",
    "Pairs",
    "Preference",
    "PreferenceLoss",
    "Scores",
    "pair_weights",
]
