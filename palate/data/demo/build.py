"""Making the demo set: items, pictures, people, and the truth beside them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from palate.data.catalogue import Catalogue
from palate.data.dataset import Dataset, Part
from palate.data.demo.looks import FACTORS, Look, draw_look
from palate.data.demo.people import Log, Shop, popularity_and_release, simulate
from palate.data.demo.products import CATEGORIES, render
from palate.data.demo.truth import Truth
from palate.data.demo.words import Words, write_words
from palate.errors import PalateError
from palate.files import atomic_folder
from palate.progress import track

PICTURE_SIDE = 128
MIN_ITEMS, MIN_USERS = 24, 10


@dataclass(frozen=True)
class _Item:
    name: str
    category: str
    look: Look
    words: Words
    pictured: bool


def build_demo(
    folder: Path | str, seed: int = 0, items: int = 600, users: int = 3000, *, replace: bool = False
) -> Dataset:
    """Make the demo set in ``folder``: a normal dataset, its pictures in ``images/``, its truth in ``truth.npz``.

    The same seed, sizes and library versions give the same interactions and the same pixels.

    Args:
        items: Number of products, at least 24.
        users: Number of people, at least 10.
        replace: Whether an existing folder may be replaced.

    Returns:
        The dataset, as ``Dataset.load(folder)`` gives it; split leave-last-out.
    """
    if items < MIN_ITEMS or users < MIN_USERS:
        raise PalateError(
            f"a demo set of {items} items and {users} users is too small",
            f"Ask for at least {MIN_ITEMS} items and {MIN_USERS} users.",
        )
    folder = Path(folder)
    # One stream of random numbers a task, so that changing one leaves the others as they were.
    streams = [np.random.default_rng([seed, task]) for task in range(4)]
    goods = _goods(items, streams[0])
    popularity, released = popularity_and_release(items, streams[1])
    shop = Shop(
        looks=np.stack([item.look.vector() for item in goods]),
        category=np.array([CATEGORIES.index(item.category) for item in goods]),
        natural=np.array([1.0 if item.words.natural else -1.0 for item in goods]),
        popularity=popularity,
        released=released,
    )
    log = simulate(shop, users, streams[2])
    with atomic_folder(folder, replace=replace) as part:
        _dataset(goods, log, part, seed).save(part)
        (part / "images").mkdir()
        for item in track(goods, "Drawing products"):
            picture = render(item.category, item.look, PICTURE_SIDE, streams[3])
            if item.pictured:
                picture.save(part / "images" / f"{item.name}.png")
        _truth(shop, log).save(part)
    return Dataset.load(folder)


def _goods(items: int, rng: np.random.Generator) -> list[_Item]:
    goods = []
    for number in range(items):
        category = str(rng.choice(CATEGORIES))
        look = draw_look(rng)
        words = write_words(category, look, rng)
        goods.append(_Item(f"p{number + 1:04d}", category, look, words, pictured=bool(rng.random() >= 0.04)))
    return goods


def _dataset(goods: list[_Item], log: Log, folder: Path, seed: int) -> Dataset:
    catalogue = Catalogue(
        pl.DataFrame(
            {
                "item_id": [item.name for item in goods],
                "title": [item.words.title for item in goods],
                "image": [f"{item.name}.png" if item.pictured else None for item in goods],
                # A shop knows the kind even of a product it has written nothing about, but may not tell.
                "category": [item.category if item.words.title else None for item in goods],
                "material": [item.words.material if item.words.title else None for item in goods],
                "description": [item.words.description for item in goods],
            },
            schema_overrides=dict.fromkeys(("title", "image", "category", "material", "description"), pl.String),
        ),
        folder / "images",
    )
    parts = np.full(len(log.items), Part.TRAIN, np.uint8)
    parts[log.offsets[1:] - 1] = Part.TEST
    parts[log.offsets[1:] - 2] = Part.VALID
    users = len(log.offsets) - 1
    return Dataset(
        catalogue=catalogue,
        user_ids=pl.Series("user_id", [f"u{number + 1:05d}" for number in range(users)]),
        offsets=log.offsets,
        items=(log.items + 1).astype(np.int32),
        parts=parts,
        timestamps=log.times,
        weights=None,
        manifest={
            "name": "demo",
            "source": {"reader": "demo", "seed": seed, "items": len(goods), "users": users, "factors": list(FACTORS)},
            "filters": [],
            "split": {"name": "leave-last-out"},
        },
    )


def _truth(shop: Shop, log: Log) -> Truth:
    """The arrays with a row for padding in front, small enough to keep."""
    zero = np.zeros((1, shop.looks.shape[1]))
    return Truth(
        look=np.concatenate([zero, shop.looks]).astype(np.float32),
        taste=log.taste.astype(np.float32),
        popularity=np.concatenate([[0.0], shop.popularity]).astype(np.float32),
        natural=np.concatenate([[0.0], shop.natural]).astype(np.float32),
        category=np.concatenate([[0], shop.category]),
        released=np.concatenate([[0], shop.released]),
        category_liking=log.category_liking.astype(np.float32),
        natural_liking=log.natural_liking.astype(np.float32),
    )
