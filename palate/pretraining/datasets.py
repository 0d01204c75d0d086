"""A generated world as a dataset, for the commands that read datasets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from palate.data.catalogue import Catalogue
from palate.data.dataset import Dataset, Part
from palate.pretraining.world import World
from palate.storage.files import atomic_folder

_SECOND = 1000  # between two things that somebody takes, in milliseconds: a world knows their order only


def world_dataset(world: World, folder: Path) -> Dataset:
    """Save a world as a dataset in ``folder``, leave-last-out, with its pictures in ``folder/images``.

    Users keep the order of ``world.people``, and items their numbers. Everybody must have taken three things.
    """
    names = [f"{number:04d}" for number in range(1, len(world.items) + 1)]
    fields = list(world.items[0].fields)
    files = [None if item.picture is None else f"{name}.png" for name, item in zip(names, world.items, strict=True)]
    catalogue = Catalogue(
        pl.DataFrame(
            {
                "item_id": names,
                "title": [item.title for item in world.items],
                "image": files,
                **{field: [item.fields.get(field) for item in world.items] for field in fields},
            },
            schema_overrides=dict.fromkeys(("title", "image", *fields), pl.String),
        ),
        folder / "images",
    )
    lengths = [len(person.history) for person in world.people]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    parts = np.full(offsets[-1], Part.TRAIN, np.uint8)
    parts[offsets[1:] - 1] = Part.TEST
    parts[offsets[1:] - 2] = Part.VALID
    dataset = Dataset(
        catalogue=catalogue,
        user_ids=pl.Series("user_id", [f"u{number:04d}" for number in range(1, len(lengths) + 1)]),
        offsets=offsets,
        items=np.concatenate([person.history for person in world.people]).astype(np.int32),
        parts=parts,
        timestamps=np.concatenate([_SECOND * np.arange(length) for length in lengths]).astype(np.int64),
        weights=None,
        manifest={
            "name": world.name,
            "source": {"reader": "generated", "world": world.name},
            "filters": [],
            "split": {"name": "leave-last-out"},
        },
    )
    with atomic_folder(folder) as part:
        dataset.save(part)
        (part / "images").mkdir()
        for name, item in zip(names, world.items, strict=True):
            if item.picture is not None:
                item.picture.save(part / "images" / f"{name}.png")
    return Dataset.load(folder)
