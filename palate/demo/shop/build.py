"""Making the demo set: items, pictures, people, and the truth beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from palate.data.catalogue import Catalogue
from palate.data.dataset import Dataset, Part
from palate.demo.shop.assortment import Product, draw_assortment, draw_shop
from palate.demo.shop.choice import Shop
from palate.demo.shop.looks import FACTORS
from palate.demo.shop.people import PurchaseLog, simulate
from palate.demo.shop.products import render
from palate.demo.shop.style import DEMO, ShopStyle
from palate.demo.shop.truth import Truth
from palate.errors import PalateError
from palate.progress import track
from palate.storage.files import atomic_folder

# As many purchases per item as in real shops: docs/demo.md has the figures.
ITEMS, USERS = 2400, 4000
PICTURE_SIDE = 112
MIN_ITEMS, MIN_USERS = 24, 10
FIELDS = ("brand", "category", "material", "colour", "description")


def build_demo(
    folder: Path | str,
    seed: int = 0,
    items: int = ITEMS,
    users: int = USERS,
    *,
    style: ShopStyle = DEMO,
    replace: bool = False,
) -> Dataset:
    """Make the demo set in ``folder``: a normal dataset, its pictures in ``images/``, its truth in ``truth.npz``.

    The same seed, sizes and library versions give the same interactions and the same pixels.

    Args:
        items: Number of products, at least 24.
        users: Number of people, at least 10.
        style: What the shop sells, how it writes and how its people choose.
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
    # One stream of random numbers per task, so that changing one leaves the others as they were.
    streams = [np.random.default_rng([seed, task]) for task in range(4)]
    goods = draw_assortment(items, streams[0], style)
    shop = draw_shop(goods, streams[1], style)
    log = simulate(shop, users, streams[2], style)
    with atomic_folder(folder, replace=replace) as part:
        _dataset(goods, log, part, seed).save(part)
        (part / "images").mkdir()
        for item in track(goods, "Drawing products"):
            picture = render(item.category, item.look, PICTURE_SIDE, streams[3])
            if item.pictured:
                picture.save(part / "images" / f"{item.name}.png")
        _truth(shop, log, style).save(part)
    return Dataset.load(folder)


def _dataset(goods: list[Product], log: PurchaseLog, folder: Path, seed: int) -> Dataset:
    catalogue = Catalogue(
        pl.DataFrame(
            {
                "item_id": [item.name for item in goods],
                "title": [item.words.title for item in goods],
                "image": [f"{item.name}.png" if item.pictured else None for item in goods],
                **{name: [getattr(item.words, name) for item in goods] for name in FIELDS},
            },
            schema_overrides=dict.fromkeys(("title", "image", *FIELDS), pl.String),
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


def _truth(shop: Shop, log: PurchaseLog, style: ShopStyle) -> Truth:
    """The arrays with a row for padding in front, small enough to keep."""
    zero = np.zeros((1, shop.looks.shape[1]))

    def padded(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.concatenate([np.zeros(1, values.dtype), values])

    return Truth(
        look=np.concatenate([zero, shop.looks]).astype(np.float32),
        taste=log.taste.astype(np.float32),
        popularity=padded(shop.popularity).astype(np.float32),
        natural=padded(shop.natural).astype(np.float32),
        category=padded(shop.category),
        brand=padded(shop.brand),
        line=padded(shop.line),
        released=padded(shop.released),
        times=log.times,
        previous=log.previous + 1,
        category_liking=log.likings.category.astype(np.float32),
        brand_liking=log.likings.brand.astype(np.float32),
        natural_liking=log.likings.natural.astype(np.float32),
        strength=style.strength,
    )
