"""Models of a hub or a folder, checked against transformers' own outputs on tiny random weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from feature_helpers import build
from PIL import Image
from safetensors.torch import load_file, save_file

from palate.errors import PalateError
from palate.features.content import Modality
from palate.features.encode import encode
from palate.features.encoders import Encoder, EncoderOptions, make_encoder

transformers = pytest.importorskip("transformers", reason="the hub encoders need transformers")
import tiny_models  # noqa: E402

TEXTS = ["heat (1995)", "a film of jaws", "alien"]


def make(folder: Path, modality: Modality, **options: Any) -> Encoder:
    return make_encoder(EncoderOptions(name=str(folder), modality=modality, device="cpu", **options))


def pictures() -> list[Image.Image]:
    noise = np.random.default_rng(0)
    return [Image.fromarray(noise.integers(0, 255, (h, w, 3), np.uint8)) for h, w in ((40, 30), (28, 28), (31, 64))]


def unit(vectors: Any) -> Any:
    return torch.nn.functional.normalize(vectors, dim=-1)


def token_vectors(folder: Path, text: str, longest: int) -> torch.Tensor:
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(
        text, truncation=True, max_length=longest, return_tensors="pt"
    )
    with torch.no_grad():
        return transformers.AutoModel.from_pretrained(folder)(**tokens).last_hidden_state[0]


def test_a_plain_text_model_gives_the_mean_of_its_tokens(tmp_path: Path) -> None:
    folder = tiny_models.bert(tmp_path / "bert")
    encoder = make(folder, "text")
    vectors = encoder(TEXTS)
    assert vectors.dtype == np.float32
    assert (len(vectors), encoder.width) == (3, 16)
    for text, vector in zip(TEXTS, vectors, strict=True):
        assert np.allclose(vector, unit(token_vectors(folder, text, 32).mean(0)), atol=1e-6)


POOLS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "cls_token": lambda tokens: tokens[0],
    "mean_tokens": lambda tokens: tokens.mean(0),
    "max_tokens": lambda tokens: tokens.amax(0),
    "mean_sqrt_len_tokens": lambda tokens: tokens.sum(0) / len(tokens) ** 0.5,
    "lasttoken": lambda tokens: tokens[-1],
    "weightedmean_tokens": lambda t: (t * torch.arange(1, len(t) + 1)[:, None]).sum(0) / sum(range(1, len(t) + 1)),
}


@pytest.mark.parametrize("mode", POOLS)
def test_a_sentence_transformers_folder_is_followed(tmp_path: Path, mode: str) -> None:
    folder = tiny_models.sentence_transformer(tmp_path / "st", mode, prompt="a film ")
    vectors = make(folder, "text")(TEXTS)
    dense = load_file(folder / "2_Dense/model.safetensors")
    for text, vector in zip(TEXTS, vectors, strict=True):
        pooled = POOLS[mode](token_vectors(folder, "a film " + text, 6))  # the model's own limit of 6 tokens
        expected = unit(torch.tanh(dense["linear.weight"] @ pooled + dense["linear.bias"]))
        assert np.allclose(vector, expected, atol=1e-5)


def test_unknown_layers_are_refused(tmp_path: Path) -> None:
    folder = tiny_models.sentence_transformer(tmp_path / "st")
    modules = json.loads((folder / "modules.json").read_text())
    modules[2]["type"] = "sentence_transformers.models.LSTM"
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(PalateError, match=r"layer 'LSTM' that Palate does not know.*--matrix"):
        make(folder, "text")


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_both_towers_of_clip_and_siglip(tmp_path: Path, name: str) -> None:
    folder = getattr(tiny_models, name)(tmp_path / name)
    text, image = make(folder, "text"), make(folder, "image")
    assert text.width == image.width
    model = transformers.AutoModel.from_pretrained(folder).eval()
    padding = "max_length" if name == "siglip" else True
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(
        TEXTS, padding=padding, max_length=16, truncation=True, return_tensors="pt"
    )
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    with torch.no_grad():
        expected_text = model.get_text_features(**tokens).pooler_output
        pixels = torch.from_numpy(
            np.concatenate([processor(p, return_tensors="np")["pixel_values"] for p in pictures()])
        )
        expected_image = model.get_image_features(pixel_values=pixels).pooler_output
    assert np.allclose(text(TEXTS), unit(expected_text), atol=1e-5)
    assert np.allclose(image(pictures()), unit(expected_image), atol=1e-5)
    assert text.fingerprint != image.fingerprint


def test_dinov2_gives_its_class_token(tmp_path: Path) -> None:
    folder = tiny_models.dinov2(tmp_path / "dino")
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    with torch.no_grad():
        model = transformers.AutoModel.from_pretrained(folder).eval()
        expected = [model(**processor(p, return_tensors="pt")).last_hidden_state[0, 0] for p in pictures()]
    assert np.allclose(make(folder, "image")(pictures()), torch.stack(expected), atol=1e-5)


def test_a_pooler_is_trusted_only_if_the_checkpoint_has_it(tmp_path: Path) -> None:
    with_pooler = make(tiny_models.vit(tmp_path / "a", pooler=True), "image")
    without = make(tiny_models.vit(tmp_path / "b", pooler=False), "image")
    again = make(tmp_path / "b", "image")
    assert not np.allclose(with_pooler(pictures()), without(pictures()))
    assert np.array_equal(without(pictures()), again(pictures()))  # nothing random in it


def test_convolutional_models_are_averaged_over_places(tmp_path: Path) -> None:
    vectors = make(tiny_models.resnet(tmp_path / "resnet"), "image")(pictures())
    assert vectors.shape == (3, 16)


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    folder = tiny_models.bert(tmp_path / "bert")
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(PalateError, match=r"lacks 1 weights, such as 'encoder.layer.1.output.dense.weight'"):
        make(folder, "text")


def test_code_of_a_model_is_not_run_unless_asked(tmp_path: Path) -> None:
    folder = tiny_models.bert(tmp_path / "bert")
    mark = tmp_path / "ran"
    (folder / "evil.py").write_text(
        f"open({str(mark)!r}, 'w').close()\nfrom transformers import BertConfig, BertModel\n"
        "class C(BertConfig): model_type = 'evil'\nclass M(BertModel): config_class = C\n"
    )
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.C", "AutoModel": "evil.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(PalateError, match=r"brings code of its own.*--trust-remote-code"):
        make(folder, "text")
    assert not mark.exists()


def test_without_a_network_the_error_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("palate.features.hub._hub_is_near", lambda: False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(PalateError, match=r"'nobody/nothing-palate' cannot be loaded .*Without a network"):
        make_encoder(EncoderOptions(name="nobody/nothing-palate", modality="text"))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(PalateError, match="must hold a model as transformers saves it"):
        make(empty, "image")


def test_fingerprints_follow_the_weights_and_the_pooling(tmp_path: Path) -> None:
    folder = tiny_models.sentence_transformer(tmp_path / "a", "cls_token", dense=False)
    first = make(folder, "text").fingerprint
    shutil.copytree(folder, tmp_path / "b")
    assert make(tmp_path / "b", "text").fingerprint == first
    (tmp_path / "b/1_Pooling/config.json").write_text('{"pooling_mode_mean_tokens": true}')
    assert make(tmp_path / "b", "text").fingerprint != first
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.1.output.dense.weight"][0, 0] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert make(folder, "text").fingerprint != first


def test_the_whole_way_with_a_folder(tmp_path: Path) -> None:
    folder = tiny_models.clip(tmp_path / "clip")
    dataset = build(tmp_path)
    text = encode(dataset, tmp_path / "data", "text", encoder=str(folder), device="cpu")
    image = encode(dataset, tmp_path / "data", "image", encoder=str(folder), device="cpu", dtype="float16")
    assert text.width == image.width == 8
    assert image.vectors.dtype == np.float16
    assert np.allclose(np.linalg.norm(text.vectors[text.present], axis=1), 1, atol=1e-5)
    assert text.info["encoder"]["command"].endswith(f"--text {folder} --store text")
