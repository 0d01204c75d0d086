"""A small shop, prepared, for the tests that need a dataset."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from worlds import walk

from palate.data.dataset import Dataset
from palate.data.frames import from_frames


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 users walk round 10 things, each from another start. Saved as a dataset."""
    log = walk(30, 10, lambda user: 5 + user % 3, time=lambda user, step: step)
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(10)], "title": [f"thing {n % 4}" for n in range(10)]})
    folder = tmp_path_factory.mktemp("reliability") / "shop"
    from_frames(log, items, name="shop").save(folder)
    return folder


@pytest.fixture(scope="session")
def data(shop: Path) -> Dataset:
    return Dataset.load(shop)
