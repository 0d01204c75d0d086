"""A small shop whose catalogue means harm, with two runs; shared by the tests of the report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from report_helpers import HOSTILE
from worlds import walk

from palate.data.dataset import Dataset
from palate.data.frames import from_frames
from palate.training.fit import train


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 users walk round 12 things; pictures of some are missing, broken, or something else."""
    folder = tmp_path_factory.mktemp("report-shop")
    pictures = folder / "pictures"
    pictures.mkdir()
    rng = np.random.default_rng(0)
    images: list[str | None] = []
    for item in range(13):
        name = f"{item}.png"
        picture = Image.fromarray(rng.integers(0, 255, (60, 40, 3), np.uint8))
        picture.save(pictures / name)
        images.append(name)
    (pictures / "1.png").write_bytes(b"not a picture")
    (pictures / "2.png").unlink()
    (pictures / "8.png").write_bytes((pictures / "9.png").read_bytes() + b"<script>alert('polyglot')</script>")
    images[0] = None
    Image.new("RGB", (30, 30), "red").save(folder / "outside.png")
    log = walk(40, 12, lambda user: int(rng.integers(5, 12)))
    items = pl.DataFrame(
        {
            "item_id": [f"i{n}" for n in range(13)],
            "title": [HOSTILE.get(n, f"Thing {n}") for n in range(13)],
            "image": images,
        }
    )
    dataset = from_frames(log, items, name="<i>shop</i>", keep_unseen=True, images=pictures)
    # A dataset from elsewhere may hold what `palate prepare` refuses.
    out = pl.when(pl.col("item_id") == "i10").then(pl.lit("../outside.png")).otherwise(pl.col("image")).alias("image")
    dataset = replace(dataset, catalogue=replace(dataset.catalogue, frame=dataset.catalogue.frame.with_columns(out)))
    dataset.save(folder / "data")
    return folder / "data"


@pytest.fixture(scope="session")
def popular(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report-runs") / "popular"
    train(Dataset.load(shop), model="popularity", out=out, dataset_path=shop)
    return out


@pytest.fixture(scope="session")
def neural(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report-runs") / "neural"
    settings = {"ranker": {"dim": 8, "layers": 1, "heads": 1}, "trainer": {"epochs": 2, "tensorboard": False}}
    train(Dataset.load(shop), model="sasrec", out=out, dataset_path=shop, settings=settings)
    return out
