"""Features of pictures are kept: candidates come up again and again, and the image encoder sees each picture once."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor

from palate.mllm.lm.chat_model import ChatModel
from palate.mllm.lm.tensor_cache import TensorCache


class ImageFeatureCache:
    """Keeps the features of pictures by the content of their pixels; right as long as the weights stay as they are.

    Args:
        max_bytes: kept at most, on the device that computed them; the least recently used go first.
    """

    def __init__(self, model: ChatModel, max_bytes: int = 512 * 2**20) -> None:
        self.model = model
        self.enabled = model.takes_pictures and model.traits.separate_images
        self._features = TensorCache(max_bytes)

    def encode_images(self, batch: dict[str, Tensor]) -> dict[str, Any]:
        """The model's arguments with features in place of pixels, where the family allows it."""
        # With sizes beside them (Pixtral), pixels are padded: their features depend on both.
        if not self.enabled or "pixel_values" not in batch or "image_sizes" in batch:
            return dict(batch)
        rest = {key: value for key, value in batch.items() if key != "pixel_values"}
        pixels = batch["pixel_values"]
        keys = [hashlib.blake2b(one.float().cpu().numpy().tobytes(), digest_size=16).digest() for one in pixels]
        found = {key: self._features.find(key) for key in keys}
        new = [number for number, key in enumerate(keys) if found[key] is None and key not in keys[:number]]
        if new:
            # Never with a graph: kept features are used again when that graph is gone.
            with torch.no_grad():
                out = self.model.core.model.get_image_features(pixel_values=pixels[new], return_dict=True)
            for number, one in zip(new, out.pooler_output, strict=True):
                found[keys[number]] = self._features.put(keys[number], one)
        features = [found[key] for key in keys]
        return {**rest, "mm_encoder_outputs": {"image": _EncoderOutput(pooler_output=features)}}


class _EncoderOutput(dict[str, Any]):
    """What an image encoder returns: transformers reads ``pooler_output`` from it. Made from pairs like any other dict,
    for distributed training makes it anew on its device."""

    @property
    def pooler_output(self) -> list[Tensor]:
        found: list[Tensor] = self["pooler_output"]
        return found
