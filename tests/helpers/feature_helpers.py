"""A small dataset with texts and pictures, and an encoder whose vectors can be foretold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import polars as pl
from PIL import Image

from palate.data.catalogue import Catalogue
from palate.data.dataset import Dataset
from palate.features.content import Modality
from palate.features.encoders import Encoder, EncoderOptions, Vectors
from palate.features.store import FeatureStore
from palate.storage.files import digest

TITLES = ["Heat (1995)", "Alien (1979)", None, "Heat (1995)", "Jaws (1975)", "(1990)"]
IMAGES = ["pics/a.png", "pics/b.png", None, "pics/a-again.png", "pics/broken.png", "../secret.png"]


def build(folder: Path, titles: Sequence[str | None] = TITLES, images: Sequence[str | None] = IMAGES) -> Dataset:
    """Six items i1..i6 and two users, saved to ``folder / "data"``; pictures lie in ``folder / "root"``."""
    root = folder / "root"
    (root / "pics").mkdir(parents=True, exist_ok=True)
    picture(root / "pics/a.png", 10)
    (root / "pics/a-again.png").write_bytes((root / "pics/a.png").read_bytes())
    picture(root / "pics/b.png", 200)
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    Image.fromarray(noise).save(root / "pics/broken.png")
    whole = (root / "pics/broken.png").read_bytes()
    (root / "pics/broken.png").write_bytes(whole[: len(whole) // 2])
    picture(folder / "secret.png", 90)
    ids = [f"i{n}" for n in range(1, len(titles) + 1)]
    frame = pl.DataFrame({"item_id": ids, "title": titles, "image": images}, schema_overrides={"title": pl.String})
    items = np.minimum(np.array([1, 2, 1, 1, 3], np.int32), len(titles))
    dataset = Dataset(
        catalogue=Catalogue(frame, root),
        user_ids=pl.Series(["u1", "u2"]),
        offsets=np.array([0, 2, 5]),
        items=items,
        parts=np.zeros(5, np.uint8),
        timestamps=None,
        weights=None,
        manifest={"name": "small"},
    )
    dataset.save(folder / "data", replace=True)
    return dataset


def picture(path: Path, shade: int, size: tuple[int, int] = (16, 12)) -> None:
    Image.new("RGB", size, (shade, 255 - shade, shade // 2)).save(path)


class Foretold(Encoder):
    """Text -> its length and first letter; picture -> its mean colour. Remembers what it was given."""

    modalities: ClassVar[tuple[Modality, ...]] = ("text", "image")
    width = 3
    batch_size = 2

    def __init__(self, options: EncoderOptions) -> None:
        self.options = options
        self.fingerprint = digest("foretold", options.name, options.dtype)
        self.seen: list[Any] = []

    def encode(self, batch: Sequence[Any]) -> Vectors:
        self.seen += list(batch)
        return np.array([vector_of(content) for content in batch], np.float32)


def vector_of(content: Any) -> list[float]:
    if isinstance(content, str):
        return [len(content), ord(content[0]), 1.0]
    return [float(value) for value in np.asarray(content).mean((0, 1))]


def foretold(modality: Modality, name: str = "foretold", **options: Any) -> Foretold:
    return Foretold(EncoderOptions(name=name, modality=modality, **options))


def random_store(items: int, width: int, seed: int = 0, absent: Sequence[int] = ()) -> FeatureStore:
    """A store in memory of unrelated vectors; the items ``absent`` have none."""
    vectors = np.random.default_rng(seed).normal(size=(items + 1, width)).astype(np.float32)
    present = np.ones(items + 1, np.bool_)
    present[[0, *absent]] = False
    vectors[~present] = 0
    return store_of(vectors, present)


def store_of(vectors: npt.NDArray[np.float32], present: npt.NDArray[np.bool_] | None = None) -> FeatureStore:
    """A store in memory of these vectors ``[items + 1, width]``; by default all items have one."""
    present = np.arange(len(vectors)) > 0 if present is None else present
    facts = {
        "modality": "text",
        "encoder": {"name": "random", "fingerprint": ""},
        "content": {"kind": "text", "fields": ["title"]},
        "coverage": {},
        "missing": [],
        "fingerprint": digest(vectors.tobytes().hex()),
    }
    return FeatureStore(Path(), facts, vectors, present, pl.DataFrame())
