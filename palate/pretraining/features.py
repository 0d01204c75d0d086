"""Features of the pictures of a generated world, through the frozen image encoder, kept in a file."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from palate.mllm.lm.chat_model import ChatModel
from palate.pretraining.world import World
from palate.storage.files import atomic_file


@torch.inference_mode()
def picture_features(chat: ChatModel, world: World) -> Tensor | None:
    """Float16 ``[items + 1, places, width]``, zeros for items without a picture; None where the world has none."""
    pictured = [number for number in range(1, len(world.items) + 1) if world.pictured(number)]
    if not pictured:
        return None
    tower = chat.core.model.vision_tower
    rows = {}
    for number in pictured:
        image = world.items[number - 1].picture
        pixels = chat.processor.image_processor(images=[image], return_tensors="pt")["pixel_values"]
        rows[number] = tower(pixels.to(chat.core.dtype)).last_hidden_state[0].to(torch.float16)
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
