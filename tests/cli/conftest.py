"""A tiny shop with two trained runs, shared by the command-line tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from cli_helpers import Shell
from worlds import walk

from palate.data.dataset import Dataset
from palate.data.frames import from_frames
from palate.training.fit import train


@pytest.fixture
def palate(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(capsys, monkeypatch)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 users walk round 12 things, each from another start; 'i12' is cold. Saved as a dataset."""
    rng = np.random.default_rng(0)
    log = walk(40, 12, lambda user: int(rng.integers(5, 9)))
    items = pl.DataFrame(
        {
            "item_id": [f"i{n}" for n in range(13)],
            "title": [f"Thing {n}" if n != 3 else "Bold [red]\x1b[31m thing" for n in range(13)],
            "colour": ["red" if n % 2 else "blue" for n in range(13)],
            "tags": [["new", "cheap"] if n == 12 else ["cheap"] for n in range(13)],
        }
    )
    dataset = from_frames(log, items, name="shop", keep_unseen=True)
    folder = tmp_path_factory.mktemp("shop") / "data"
    dataset.save(folder)
    return folder


@pytest.fixture(scope="session")
def popular(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "popular"
    train(Dataset.load(shop), model="popularity", out=out, dataset_path=shop)
    return out


@pytest.fixture(scope="session")
def neural(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "neural"
    settings = {"ranker": {"dim": 8, "layers": 1, "heads": 1}, "trainer": {"epochs": 1, "tensorboard": False}}
    train(Dataset.load(shop), model="sasrec", out=out, dataset_path=shop, settings=settings)
    return out
