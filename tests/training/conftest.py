"""A small dataset with a pattern to learn: users walk round a ring of items."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from palate.data.catalogue import Catalogue
from palate.data.dataset import Dataset, Part
from palate.data.sequences import offsets_of


@pytest.fixture(scope="session")
def ring() -> Callable[..., Dataset]:
    """Build it: each user starts somewhere and mostly takes the next item of the ring."""

    def build(users: int = 80, items: int = 30, longest: int = 14, seed: int = 0, first_item: int = 0) -> Dataset:
        random = np.random.default_rng(seed)
        lengths = random.integers(4, longest + 1, users)
        starts = random.integers(0, items, users)
        rows = [
            (start + np.cumsum(random.choice([1, 2], size, p=[0.9, 0.1]))) % items + 1
            for start, size in zip(starts, lengths, strict=True)
        ]
        parts = [[Part.TRAIN] * (size - 2) + [Part.VALID, Part.TEST] for size in lengths]
        names = [f"item-{first_item + i}" for i in range(items)]
        frame = pl.DataFrame({"item_id": names, "title": names, "image": pl.Series([None] * items, dtype=pl.String)})
        return Dataset(
            catalogue=Catalogue(frame),
            user_ids=pl.Series("user_id", [f"user-{u}" for u in range(users)]),
            offsets=offsets_of(lengths.astype(np.int64)),
            items=np.concatenate(rows).astype(np.int32),
            parts=np.concatenate(parts).astype(np.uint8),
            timestamps=None,
            weights=None,
            manifest={"name": "ring", "split": {"name": "leave-last-out"}},
        )

    return build
