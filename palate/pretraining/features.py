"""Features of the pictures of a generated world, through the frozen image encoder, kept in a file."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from palate.mllm.lm.chat_model import ChatModel
from palate.mllm.lm.projector_inputs import projector_inputs
from palate.pretraining.world import World
from palate.storage.files import atomic_file


def picture_features(chat: ChatModel, world: World) -> Tensor | None:
    """Float16 ``[items + 1, places, width]``, zeros for items without a picture; None where the world has none."""
    rows = {}
    with projector_inputs(chat) as encode:
        for number, item in enumerate(world.items, 1):
            if item.picture is not None:
                rows[number] = encode(item.picture)
    if not rows:
        return None
    out = torch.zeros(len(world.items) + 1, *next(iter(rows.values())).shape, dtype=torch.float16)
    for number, row in rows.items():
        out[number] = row
    return out


def kept_features(chat: ChatModel, world: World, folder: Path) -> Tensor | None:
    """:func:`picture_features`, read from ``folder`` where they were computed before."""
    path = folder / f"{world.name}.safetensors"
    if path.is_file():
        return load_file(path)["features"]
    found = picture_features(chat, world)
    if found is not None:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as part:
            save_file({"features": found}, part)
    return found
