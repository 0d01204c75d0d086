"""Looking at a picture once: what the vision tower makes of it is kept, for candidates come up again and again."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

from palate.mllm.lm.chat_model import ChatModel

# Families whose towers look at every picture on its own and give [pictures, 3, height, width] -> one matrix a picture.
FAMILIES = ("llava",)


class ImageFeatureCache:
    """Keeps the features of pictures by the content of their pixels; right as long as the weights stay as they are.

    Args:
        most: bytes kept, where the features came to be; pictures not seen for the longest time go first.
    """

    def __init__(self, model: ChatModel, most: int = 512 * 2**20) -> None:
        self.model, self.most, self.bytes = model, most, 0
        self.able = model.sees and model.family in FAMILIES
        self._kept: OrderedDict[bytes, Tensor] = OrderedDict()

    def look(self, batch: dict[str, Tensor]) -> dict[str, Any]:
        """The model's arguments with features in place of pixels, where the family allows it."""
        # With sizes beside them (Pixtral), pixels are padded: what a tower makes of them hangs on both.
        if not self.able or "pixel_values" not in batch or "image_sizes" in batch:
            return dict(batch)
        rest = {key: value for key, value in batch.items() if key != "pixel_values"}
        pixels = batch["pixel_values"]
        keys = [hashlib.blake2b(one.float().cpu().numpy().tobytes(), digest_size=16).digest() for one in pixels]
        new = [number for number, key in enumerate(keys) if key not in self._kept and key not in keys[:number]]
        if new:
            # Never with a graph: what is kept is met again when that graph is gone.
            with torch.no_grad():
                seen = self.model.core.model.get_image_features(pixel_values=pixels[new], return_dict=True)
            found = seen.pooler_output
            for number, one in zip(new, found, strict=True):
                self._kept[keys[number]] = one.clone()  # a view would keep the whole batch in memory
                self.bytes += one.nbytes
        features = []
        for key in keys:
            self._kept.move_to_end(key)
            features.append(self._kept[key])
        while self.bytes > self.most:
            self.bytes -= self._kept.popitem(last=False)[1].nbytes
        return {**rest, "mm_encoder_outputs": {"image": _Looked(pooler_output=features)}}


class _Looked(dict[str, Any]):
    """What a tower returns: transformers reads ``pooler_output`` from it. Made from pairs like any other dict, for
    distributed training makes it anew on its device."""

    @property
    def pooler_output(self) -> list[Tensor]:
        found: list[Tensor] = self["pooler_output"]
        return found
