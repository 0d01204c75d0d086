"""A small dataset with pictures, and fine-tuning of tiny models on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

from palate.data.catalogue import Catalogue
from palate.data.dataset import Dataset, Part
from palate.data.sequences import offsets_of

ITEMS = 30


def small_dataset(folder: Path, users: int = 24) -> Dataset:
    """Two tastes, red and blue: everybody keeps to one. Of the 30 pictures one is missing and one is broken."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    images: list[str | None] = []
    for item in range(1, ITEMS + 1):
        colour = (200, 30, 30) if item % 2 else (30, 30, 200)
        name = f"images/{item}.png"
        Image.new("RGB", (40 + item, 50), colour).save(folder / name)
        images.append(name)
    images[4] = None
    (folder / "images/8.png").write_bytes(b"no picture")
    rows = []
    for user in range(users):
        pool = np.arange(1, ITEMS + 1)[np.arange(1, ITEMS + 1) % 2 == user % 2]
        rows.append(rng.permutation(pool)[:8].tolist())
    parts = [Part.TRAIN] * 6 + [Part.VALID, Part.TEST]
    frame = pl.DataFrame(
        {
            "item_id": [f"i{n}" for n in range(1, ITEMS + 1)],
            "title": [f"{'Red' if n % 2 else 'Blue'} thing {n}" for n in range(1, ITEMS + 1)],
            "image": images,
        }
    )
    dataset = Dataset(
        catalogue=Catalogue(frame, folder),
        user_ids=pl.Series([f"u{n}" for n in range(users)]),
        offsets=offsets_of(np.full(users, 8, np.int64)),
        items=np.array(rows, np.int32).reshape(-1),
        parts=np.tile(np.array([int(part) for part in parts], np.uint8), users),
        timestamps=None,
        weights=None,
        manifest={"name": "tastes", "split": {"name": "leave-last-out"}},
    )
    dataset.save(folder / "dataset")
    return Dataset.load(folder / "dataset")


def tiny_settings(folder: Path, **sections: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Two steps of four examples on a tiny model, everything else as given."""
    base: dict[str, dict[str, Any]] = {
        "model": {"name": str(folder), "dtype": "float32"},
        "prompt": {"history_items": 3},
        "examples": {"users": 4, "cutoffs": 1, "validate_users": 3, "validate_negatives": 2},
        "lora": {},
        "trainer": {"batch_size": 4, "validations_per_epoch": 1},
        "scoring": {},
    }
    if sections.get("prompt", {}).get("task") == "choose":
        del base["examples"]["validate_negatives"]
    if sections.get("prompt", {}).get("blind"):
        del base["prompt"]["history_items"]
    return {name: {**values, **sections.get(name, {})} for name, values in base.items()}


def option_logits_of(parts: Any, batch: dict[str, Any], answers: Any, chat: Any) -> Any:
    """Logits of the answers at the ends of a collated batch of cases: ``[cases, prompts, answers]``."""
    from palate.mllm.finetune.option_loss import logits_of

    own = ("ends", "labels", "shift_labels", "read")
    inputs = {key: value for key, value in batch.items() if key not in own}
    tokens = parts.model.first_tokens(chat, answers)
    return logits_of(parts.model.model, parts.model, inputs, batch["ends"], tokens)
