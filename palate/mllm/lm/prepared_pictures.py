"""Pictures are resized and normalised once, however many prompts show them: those of a user's candidates share most."""

from __future__ import annotations

import copy
from hashlib import blake2b
from typing import Any

import torch
from PIL import Image

from palate.mllm.lm.tensor_cache import TensorCache

_PIXELS = "pixel_values"


class PreparedPictures:
    """Stands for an image processor whose ``pixel_values`` of a picture do not depend on the pictures beside it.

    Where the processor makes anything else of pictures (sizes, tiles), or is asked for anything but torch tensors, it
    is called as usual.

    Args:
        max_bytes: of pixels, kept at most; the least recently used go first.
    """

    def __init__(self, processor: Any, max_bytes: int = 128 * 2**20) -> None:
        self._processor = processor
        self._pixels = TensorCache(max_bytes)
        self._apart = True

    def __call__(self, images: Any, **options: Any) -> Any:
        flat = isinstance(images, list) and all(isinstance(one, Image.Image) for one in images)
        if self._apart and flat and options.get("return_tensors") == "pt":
            how = repr(sorted(options.items()))
            made = [one for image in images if (one := self._prepare(image, how, options)) is not None]
            if len(made) == len(images) and len({one.shape for one in made}) == 1:
                from transformers import BatchFeature  # a report is made without it

                return BatchFeature({_PIXELS: torch.cat(made)})
            self._apart = False
        return self._processor(images, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_processor":  # before it is set, and of copying
            raise AttributeError(name)
        return getattr(self._processor, name)

    def _prepare(self, image: Image.Image, how: str, options: dict[str, Any]) -> torch.Tensor | None:
        """``[1, 3, height, width]``; None where the processor makes anything else of a picture."""
        key = (how, image.mode, image.size, blake2b(image.tobytes(), digest_size=16).digest())
        known = self._pixels.find(key)
        if known is not None:
            return known
        made = self._processor([image], **options)
        if list(made) != [_PIXELS] or len(made[_PIXELS]) != 1:
            return None
        return self._pixels.put(key, made[_PIXELS])


def preparing_once(processor: Any) -> Any:
    """A processor of prompts that is the given one but for the memory of its image processor."""
    if not hasattr(processor, "image_processor"):
        return processor
    made = copy.copy(processor)
    made.image_processor = PreparedPictures(processor.image_processor)
    return made
