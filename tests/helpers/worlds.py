"""The worlds that tests measure on: small datasets, each drawn from a seed or made by a rule that can be learnt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from PIL import Image

from palate.data.catalogue import Catalogue
from palate.data.dataset import Dataset, Part
from palate.data.frames import from_frames
from palate.data.sequences import offsets_of

FILM_WORDS = ("space", "love", "crime")
FILMS_PER_WORD = 8
HELD_OUT_FILM = "space-7"
TASTE_ITEMS = 30
LAST_OUT = {"name": "leave-last-out"}


def dataset_of(
    rows: Sequence[npt.ArrayLike],
    items: pl.DataFrame,
    *,
    tests: int = 1,
    user: str = "u",
    timestamps: npt.NDArray[np.int64] | None = None,
    root: Path | None = None,
    manifest: dict[str, Any],
) -> Dataset:
    """A dataset in memory: one row of item numbers per user, the last ``tests`` of them for testing.

    Args:
        items: the catalogue; ``title`` and ``image`` may be absent.
        user: what the users' ids begin with.
    """
    lengths = np.array([len(np.asarray(row)) for row in rows], np.int64)
    parts = [[Part.TRAIN] * (size - tests - 1) + [Part.VALID] + [Part.TEST] * tests for size in lengths]
    if "title" not in items.columns:
        items = items.with_columns(title=pl.col("item_id"))
    if "image" not in items.columns:
        items = items.with_columns(image=pl.lit(None, pl.String))
    return Dataset(
        catalogue=Catalogue(items) if root is None else Catalogue(items, root),
        user_ids=pl.Series("user_id", [f"{user}{number}" for number in range(len(rows))]),
        offsets=offsets_of(lengths),
        items=np.concatenate(rows).astype(np.int32),
        parts=np.concatenate(parts).astype(np.uint8),
        timestamps=timestamps,
        weights=None,
        manifest=manifest,
    )


def walk(
    users: int,
    items: int,
    steps: Callable[[int], int],
    *,
    start: int = 1,
    time: Callable[[int, int], int] = lambda user, step: 1000 * step + user,
) -> pl.DataFrame:
    """A log of users who walk round ``items`` items (``i0``, ``i1`` ...), each from its own start.

    Args:
        steps: how many, by user.
        start: distance between the starts of two users.
    """
    rows = [
        (f"u{user}", f"i{(start * user + step) % items}", time(user, step))
        for user in range(users)
        for step in range(steps(user))
    ]
    return pl.DataFrame(rows, schema=["user", "item", "timestamp"], orient="row")


def walking_shop(users: int = 6, steps: int = 8, items: int = 30, **columns: Any) -> Dataset:
    """Users who walk through a shop of ``Thing 0``, ``Thing 1`` ..., and start three items apart.

    Args:
        columns: further columns of the catalogue.
    """
    catalogue = pl.DataFrame(
        {"item_id": [f"i{n}" for n in range(items)], "title": [f"Thing {n}" for n in range(items)], **columns}
    )
    log = walk(users, items, lambda user: steps, start=3)
    return from_frames(log, catalogue, timestamp="timestamp", name="shop", keep_unseen=True)


def ring(users: int = 80, items: int = 30, longest: int = 14, seed: int = 0, first_item: int = 0) -> Dataset:
    """Each user starts somewhere on a ring of items and mostly takes the next one."""
    random = np.random.default_rng(seed)
    lengths = random.integers(4, longest + 1, users)
    starts = random.integers(0, items, users)
    rows = [
        (start + np.cumsum(random.choice([1, 2], size, p=[0.9, 0.1]))) % items + 1
        for start, size in zip(starts, lengths, strict=True)
    ]
    catalogue = pl.DataFrame({"item_id": [f"item-{first_item + number}" for number in range(items)]})
    return dataset_of(rows, catalogue, user="user-", manifest={"name": "ring", "split": LAST_OUT})


def clocked(asked: bool, users: int = 150, items: int = 12, length: int = 14, seed: int = 0) -> Dataset:
    """The next item is one or five further on a ring, and only a gap in the times tells which.

    Args:
        asked: the gap is the one before the next item itself, and not the one before the newest.
    """
    rng = np.random.default_rng(seed)
    rows, times = [], []
    for _ in range(users):
        long = rng.random(length) < 0.5  # the gap before each item
        steps = np.where(long if asked else np.roll(long, 1), 5, 1)
        rows.append((rng.integers(items) + np.cumsum(steps)) % items + 1)
        times.append(10**12 + np.cumsum(np.where(long, 30 * 86_400_000, 20_000)))
    catalogue = pl.DataFrame({"item_id": [f"i{number}" for number in range(items)]})
    manifest = {"name": "clocked", "split": LAST_OUT}
    return dataset_of(rows, catalogue, timestamps=np.concatenate(times), manifest=manifest)


def ring_with_cold_items(seed: int, users: int = 40, items: int = 20, cold: int = 2) -> Dataset:
    """Users who walk along a ring of items, with noise and times; nobody takes the last items of the catalogue."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(users):
        steps = np.cumsum(rng.choice([1, 1, 1, 2], int(rng.integers(5, 12)))) + rng.integers(0, items)
        rows.append(1 + steps % (items - cold))
    times = np.arange(sum(len(row) for row in rows)) * 1000
    catalogue = pl.DataFrame({"item_id": [f"i{n}" for n in range(1, items + 1)]})
    return dataset_of(rows, catalogue, timestamps=times, manifest={"name": "ring"})


def random_logs(
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
    rows = []
    for user in range(users):
        length = int(rng.integers(3, 14)) + tests
        row = rng.choice(np.arange(1, items - cold + 1), length, replace=repeats)
        if cold and user % 7 == 0:
            row[-1] = items - user % cold
        rows.append(row)
    times = np.concatenate([np.sort(rng.integers(0, 10**12, len(row))) for row in rows]) if timestamps else None
    numbers = range(1, items + 1)
    catalogue = pl.DataFrame({"item_id": [f"i{n}" for n in numbers], "title": [f"Item {n}" for n in numbers]})
    facts = {"name": "random", "split": LAST_OUT, "rows": sum(len(row) for row in rows), **manifest}
    return dataset_of(rows, catalogue, tests=tests, timestamps=times, manifest=facts)


def two_tastes(folder: Path, users: int = 24) -> Dataset:
    """Red and blue items: every user takes one colour only. Of the 30 pictures one is missing and one is broken."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    numbers = np.arange(1, TASTE_ITEMS + 1)
    images: list[str | None] = []
    for item in numbers.tolist():
        colour = (200, 30, 30) if item % 2 else (30, 30, 200)
        name = f"images/{item}.png"
        Image.new("RGB", (40 + item, 50), colour).save(folder / name)
        images.append(name)
    images[4] = None
    (folder / "images/8.png").write_bytes(b"no picture")
    rows = [rng.permutation(numbers[numbers % 2 == user % 2])[:8] for user in range(users)]
    catalogue = pl.DataFrame(
        {
            "item_id": [f"i{n}" for n in numbers],
            "title": [f"{'Red' if n % 2 else 'Blue'} thing {n}" for n in numbers],
            "image": images,
        }
    )
    dataset = dataset_of(rows, catalogue, root=folder, manifest={"name": "tastes", "split": LAST_OUT})
    dataset.save(folder / "dataset")
    return Dataset.load(folder / "dataset")


def film_catalogue(with_held_out: bool = True) -> pl.DataFrame:
    """Eight films for each of three words; the first of each has no picture."""
    rows = [
        {
            "item_id": f"{word}-{number}",
            "title": f"{word} story {number}",
            "tags": [word, "film"],
            "year": 1990 + number,
            "image": f"{word}-{number}.png" if number else None,
        }
        for word in FILM_WORDS
        for number in range(FILMS_PER_WORD)
    ]
    frame = pl.DataFrame(rows)
    return frame if with_held_out else frame.filter(pl.col("item_id") != HELD_OUT_FILM)


def film_pictures(folder: Path) -> Path:
    """A picture for every film but the first of each word, in the word's colour."""
    folder.mkdir(parents=True, exist_ok=True)
    for place, word in enumerate(FILM_WORDS):
        for number in range(1, FILMS_PER_WORD):
            colour = [20 * number, 40, 40]
            colour[place] = 220
            Image.new("RGB", (700, 400), tuple(colour)).save(folder / f"{word}-{number}.png")
    return folder


def film_shop(folder: Path) -> Dataset:
    """90 people, each fond of one word; the held-out film is not in the catalogue yet. Saved to ``folder / "data"``."""
    rng = np.random.default_rng(0)
    items = film_catalogue(with_held_out=False)
    rows = []
    for user in range(90):
        word = FILM_WORDS[user % 3]
        mine = items.filter(pl.col("item_id").str.starts_with(word))["item_id"].to_list()
        rows += [(f"u{user}", str(item)) for item in rng.permutation(mine)[:6]]
    log = pl.DataFrame(rows, schema=["user", "item"], orient="row")
    dataset = from_frames(log, items, name="films", images=film_pictures(folder / "pictures"), keep_unseen=True)
    dataset.save(folder / "data")
    return dataset
