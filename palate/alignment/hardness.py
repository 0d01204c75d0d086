"""Hardness of the pairs that an alignment meets, fitted to those that its start draws."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from palate.alignment.pairs import PairDrawer, sample_pairs
from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.features.hardness import Hardness
from palate.features.store import FeatureStore
from palate.objectives import Preference
from palate.rankers.sequential import SequentialRanker
from palate.training.plan import Prepared


@torch.no_grad()
def fit_hardness(
    pairs: PairDrawer,
    preference: Preference,
    model: SequentialRanker,
    prepared: Prepared,
    stores: Mapping[str, FeatureStore],
    dataset: Dataset,
) -> Hardness:
    """Hardness as the preference's settings want it.

    Raises:
        PalateError: no pair can be drawn, or the run has no features to compare items by.
    """
    device = model.device
    counts = torch.from_numpy(dataset.train_counts).float().to(device)
    chosen, rejected, valid = [], [], []
    for drawn in sample_pairs(pairs, model, prepared.data, counts):
        chosen.append(drawn.items[:, 0])
        rejected.append(drawn.items[:, 1:])
        valid.append(drawn.rejected.valid)
    if not chosen:
        raise PalateError("no pair could be drawn to measure hardness with", "Choose other negatives or positions.")
    config: Any = preference.config
    return Hardness.fit(
        stores.values(),
        torch.cat(chosen),
        torch.cat(rejected),
        form=config.hardness,
        valid=torch.cat(valid),
        shuffle_of=config.shuffle_of,
        neighbours=config.neighbours,
        spread=config.spread,
        seed=prepared.data.seed,
        device=device,
    )
