"""Small random worlds that the evaluation tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
import torch
from torch import Tensor

from palate.data.catalogue import Catalogue
from palate.data.dataset import Dataset, Part
from palate.data.sequences import offsets_of
from palate.recommender import Histories, Recommender, as_sequences


class Fixed(Recommender):
    """Scores that are a function of the history's length and a table: any pattern of scores a test wants."""

    name = "fixed"

    def __init__(self, table: Tensor) -> None:
        self.table = table
        self.num_items = table.shape[1] - 1

    def score(self, histories: Histories, candidates: Tensor | None = None) -> Tensor:
        rows = torch.from_numpy(as_sequences(histories).lengths) % len(self.table)
        scores = self.table[rows].clone()
        scores[:, 0] = -torch.inf
        return scores if candidates is None else scores.gather(1, candidates)

    def save(self, folder: Path) -> None:
        raise NotImplementedError

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Self:
        raise NotImplementedError


def make_dataset(
    users: int = 60,
    items: int = 40,
    *,
    tests: int = 1,
    cold: int = 3,
    seed: int = 0,
    repeats: bool = False,
    timestamps: bool = False,
    **manifest: Any,
) -> Dataset:
    """Random logs: the last ``tests`` interactions are for testing, the one before for validation, ``cold`` items
    (the last ones) occur among test targets only."""
    rng = np.random.default_rng(seed)
    rows, parts = [], []
    for user in range(users):
        length = int(rng.integers(3, 14)) + tests
        row = rng.choice(np.arange(1, items - cold + 1), length, replace=repeats)
        if cold and user % 7 == 0:
            row[-1] = items - user % cold
        rows.append(row)
        parts.append(np.array([Part.TRAIN] * (length - tests - 1) + [Part.VALID] + [Part.TEST] * tests, np.uint8))
    lengths = np.array([len(row) for row in rows], np.int64)
    catalogue = Catalogue(
        pl.DataFrame(
            {
                "item_id": [f"i{n}" for n in range(1, items + 1)],
                "title": [f"Item {n}" for n in range(1, items + 1)],
                "image": pl.Series([None] * items, dtype=pl.String),
            }
        )
    )
    total = int(lengths.sum())
    times = np.concatenate([np.sort(rng.integers(0, 10**12, n)) for n in lengths]) if timestamps else None
    return Dataset(
        catalogue=catalogue,
        user_ids=pl.Series("user_id", [f"u{n}" for n in range(users)]),
        offsets=offsets_of(lengths),
        items=np.concatenate(rows).astype(np.int32),
        parts=np.concatenate(parts),
        timestamps=times,
        weights=None,
        manifest={"name": "random", "split": {"name": "leave-last-out"}, "rows": total, **manifest},
    )
