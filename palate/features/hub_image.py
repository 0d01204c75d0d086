"""Any image model of transformers as an encoder: CLIP and SigLIP towers, DINOv2, ViT, ConvNeXt and their like.

Pictures are prepared by the model's own processor in its Pillow form, so that torchvision is not needed. CLIP and
SigLIP vectors have length 1, as they are compared by their angle; the others are left as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from palate.errors import PalateError
from palate.features.content import Modality
from palate.features.encoders import Encoder, EncoderOptions, Vectors, pick_device, pick_dtype, weights_digest
from palate.features.hub import fetch, load_model, output_tensor, source
from palate.storage.files import digest


class HubImage(Encoder):
    """Picture -> vector, with an image model of a hub or of a local folder."""

    modalities: ClassVar[tuple[Modality, ...]] = ("image",)

    def __init__(self, options: EncoderOptions) -> None:
        where = source(options)
        transformers: Any = import_module("transformers")
        auto = transformers.AutoImageProcessor
        self.options = options
        self.device = pick_device(options.device)
        self.dtype = pick_dtype(options.dtype, self.device)
        pillow = {"use_fast": False} if int(transformers.__version__.split(".")[0]) < 5 else {"backend": "pil"}
        self.processor = fetch(options.name, "image processor", lambda: auto.from_pretrained(**where, **pillow))
        model, lacking = load_model(options, where)
        self.is_tower = hasattr(model, "get_image_features")
        # Some checkpoints come without the pooling layer that the class has; it would be random.
        self.trust_pooler = not any("pooler" in key for key in lacking)
        names = dict(model.named_parameters())
        self.has_class_token = any("cls_token" in name or "class_embedding" in name for name in names)
        how = f"{self.is_tower} {self.trust_pooler} {self.has_class_token} {self.dtype}"
        self.fingerprint = digest(weights_digest(model), self.processor.to_json_string(), how)
        self.model = model.to(self.device, self.dtype)
        self.batch_size = 8 if self.device.type == "cpu" else 64
        from PIL import Image

        self.width = int(self([Image.new("RGB", (64, 64))]).shape[1])

    def prepare(self, content: Any) -> npt.NDArray[np.float32]:
        pixels = self.processor(images=content, return_tensors="np")["pixel_values"]
        array: npt.NDArray[np.float32] = np.asarray(pixels[0], np.float32)
        return array

    def encode(self, batch: Sequence[Any]) -> Vectors:
        import torch

        if any(one.shape != batch[0].shape for one in batch):  # a processor that keeps the proportions
            return np.concatenate([self.encode([one]) for one in batch])
        pixels = torch.from_numpy(np.stack(batch)).to(self.device, self.dtype)
        with torch.inference_mode():
            if self.is_tower:
                pooled = output_tensor(self.model.get_image_features(pixel_values=pixels)).float()
                pooled = torch.nn.functional.normalize(pooled, dim=1)
            else:
                pooled = self._pool(self.model(pixel_values=pixels)).float()
            vectors: Vectors = pooled.cpu().numpy()
        return vectors

    def _pool(self, output: Any) -> Any:
        pooled = getattr(output, "pooler_output", None)
        if pooled is not None and self.trust_pooler:
            return pooled.flatten(1)
        hidden = output.last_hidden_state
        if hidden.ndim == 4:  # feature maps [n, channels, height, width]
            return hidden.mean((2, 3))
        if hidden.ndim != 3:
            raise PalateError(
                f"the model '{self.name}' gives no features that Palate knows", "Choose another image model."
            )
        return hidden[:, 0] if self.has_class_token else hidden.mean(1)
