"""The image encoder of the embedded model: EfficientNet-Lite0 as a vision tower that transformers loads by name.

A picture becomes a grid of 2 x 2 places, which is what a LLaVA model takes. Each has the network's 1280 features and
a histogram of the colours there: trained to tell things apart, the network has forgotten most of what colour they
are (linear probes on 250 drawn products read their colour, one of nine, from its features in 69% and with the
histogram in 99%, and kind, pattern and shape in 94% to 100% from one place as well as from 16).
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from palate.features.efficientnet import SIZE, folded
from palate.features.embedded import package_folder
from palate.mllm.lm.tensor_cache import TensorCache

MODEL_TYPE = "palate_efficientnet_lite0"
FEATURES = 1280
BINS = 4  # of each of red, green and blue
WIDTH = FEATURES + BINS**3
_HISTOGRAM_SIDE = 56  # pixels
# The weights were trained on (x - 127) / 128 of 0..255; image processors count in 0..1.
MEAN, SPREAD = 127 / 255, 128 / 255
# What towers on a CPU made of pictures, for all models of a process: about 21 kB for each picture.
SEEN = TensorCache(128 * 2**20)


class EfficientNetLite0Config(PreTrainedConfig):  # type: ignore[misc]
    """Attributes:
    hidden_size: features per place.
    image_size: pixels per side.
    grid: places per side.
    """

    model_type = MODEL_TYPE

    def __init__(self, hidden_size: int = WIDTH, image_size: int = SIZE, grid: int = 2, **more: Any) -> None:
        self.hidden_size, self.image_size, self.grid = hidden_size, image_size, grid
        self.patch_size = image_size // grid
        super().__init__(**more)


class EfficientNetLite0Tower(PreTrainedModel):  # type: ignore[misc]
    """Pictures ``[n, 3, 224, 224]`` -> places ``[n, grid * grid, WIDTH]``, row by row. It never trains."""

    config_class = EfficientNetLite0Config
    base_model_prefix = "tower"
    main_input_name = "pixel_values"
    input_modalities = ("image",)

    def __init__(self, config: EfficientNetLite0Config) -> None:
        super().__init__(config)
        package_folder("efficientnet_lite_pytorch", "EfficientNet-Lite0")
        from efficientnet_lite_pytorch import EfficientNet

        net = EfficientNet.from_name("efficientnet-lite0")
        net._fc = nn.Identity()
        # Batch norms live on inside the convolutions: nothing here can drift while the rest of a model trains.
        self.net = folded(net.eval())
        self._digest: tuple[tuple[torch.dtype, int], str] | None = None
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Weights are always loaded."""

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode: in training, blocks are dropped at random."""
        super().train(mode)
        self.net.eval()
        return self

    def forward(self, pixel_values: Tensor, **_: Any) -> BaseModelOutputWithPooling:
        with torch.no_grad():
            if pixel_values.device.type == "cpu":  # one picture at a time is twice as fast there
                places = torch.stack([self._known_places(one) for one in pixel_values])
            else:
                places = self._places(pixel_values)
        return BaseModelOutputWithPooling(
            last_hidden_state=places, pooler_output=places.mean(1), hidden_states=(places,)
        )

    def _known_places(self, picture: Tensor) -> Tensor:
        """``[3, 224, 224]`` -> ``[grid * grid, WIDTH]``, from memory where a tower of these weights has seen it."""
        content = picture.float().contiguous().numpy().data
        key = (self._weights_digest(), self.config.grid, blake2b(content, digest_size=16).digest())
        seen = SEEN.find(key)
        return SEEN.put(key, self._places(picture[None])[0]) if seen is None else seen

    def _places(self, pixel_values: Tensor) -> Tensor:
        pixels = pixel_values.to(self.dtype).contiguous(memory_format=torch.channels_last)
        maps = self.net.extract_features(pixels)  # [n, 1280, 7, 7]
        features = nn.functional.adaptive_avg_pool2d(maps, self.config.grid).flatten(2)
        colours = colour_histograms(pixel_values, self.config.grid).flatten(2).to(features.dtype)
        return torch.cat([features, colours], dim=1).transpose(1, 2)

    def _weights_digest(self) -> str:
        """Of the network's weights as they are now: computed again when they have been written to."""
        weights = list(self.net.parameters())
        state = (self.dtype, sum(one._version for one in weights if not one.is_inference()))
        if self._digest is None or self._digest[0] != state:
            self.net.to(memory_format=torch.channels_last)
            whole = blake2b(digest_size=16)
            for one in weights:
                whole.update(one.detach().float().contiguous().numpy().data)
            self._digest = (state, f"{self.dtype} {whole.hexdigest()}")
        return self._digest[1]


def colour_histograms(pixel_values: Tensor, grid: int) -> Tensor:
    """Square roots of the shares of 64 colours at each place: ``[n, 3, side, side]`` -> ``[n, 64, grid, grid]``.

    Args:
        pixel_values: standardised by :data:`MEAN` and :data:`SPREAD`.
    """
    small = nn.functional.adaptive_avg_pool2d(pixel_values.float() * SPREAD + MEAN, _HISTOGRAM_SIDE)
    levels = (small * BINS).long().clamp(0, BINS - 1)
    colour = (levels[:, 0] * BINS + levels[:, 1]) * BINS + levels[:, 2]
    shares = nn.functional.one_hot(colour, BINS**3).permute(0, 3, 1, 2).float()
    return nn.functional.adaptive_avg_pool2d(shares, grid).sqrt()


def register() -> None:
    """Make the tower known to transformers; again is harmless."""
    AutoConfig.register(MODEL_TYPE, EfficientNetLite0Config, exist_ok=True)
    AutoModel.register(EfficientNetLite0Config, EfficientNetLite0Tower, exist_ok=True)
