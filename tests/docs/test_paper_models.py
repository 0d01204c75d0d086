"""docs/paper-models.md: its table is what its calculation gives, of models that are as large as it says."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

PAGE = Path(__file__).resolve().parents[2] / "docs" / "paper-models.md"


@cache
def calculated() -> dict[str, Any]:
    """The names of the page's Python, executed."""
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    names: dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec"), names)
    return names


def test_the_table_is_what_the_calculation_gives() -> None:
    rows = re.findall(r"^\| ((?:MSR|HaNoRec): .*?) \| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.M)
    assert {name: cells.split(" | ") for name, cells in rows} == calculated()["TABLE"]


def llava() -> Any:
    from transformers import CLIPVisionConfig, LlavaNextConfig, LlavaNextForConditionalGeneration, MistralConfig

    vision = CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, image_size=336,
        patch_size=14, projection_dim=768,
    )  # fmt: skip
    text = MistralConfig(vocab_size=32064)  # its defaults are Mistral-7B's
    return LlavaNextForConditionalGeneration(LlavaNextConfig(vision_config=vision, text_config=text))


def qwen() -> Any:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    text = {
        "vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36,
        "num_attention_heads": 16, "num_key_value_heads": 2, "tie_word_embeddings": True,
    }  # fmt: skip
    vision = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 2048}
    made = Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True)
    )
    made.tie_weights()
    return made


def llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"vocab_size": 128256, "intermediate_size": 14336, "num_key_value_heads": 8}  # the rest are its defaults
    return LlamaForCausalLM(LlamaConfig(**sizes))


@pytest.mark.parametrize(("name", "make"), [("LLAVA", llava), ("QWEN", qwen), ("LLAMA", llama)])
def test_the_models_are_as_large_as_the_page_says(name: str, make: Any) -> None:
    pytest.importorskip("transformers")
    stated = calculated()[name]
    with torch.device("meta"):
        model = make()

    def count(module: Any) -> float:
        return sum(weight.numel() for weight in module.parameters())

    decoder = model.get_decoder()
    tower = getattr(model.model, "vision_tower", getattr(model.model, "visual", None))
    layer = decoder.layers[0]
    assert stated.weights == pytest.approx(count(model), rel=1e-3)
    assert stated.decoder == pytest.approx(count(decoder.layers), rel=1e-3)
    assert stated.tower == pytest.approx(0 if tower is None else count(tower), rel=5e-3)
    assert stated.layers == len(decoder.layers)
    assert (stated.width, stated.kv) == (layer.self_attn.q_proj.in_features, layer.self_attn.k_proj.out_features)
    assert (stated.width, stated.inner) == (layer.self_attn.o_proj.out_features, layer.mlp.up_proj.out_features)


def test_pictures_take_as_many_tokens_as_the_page_says() -> None:
    transformers = pytest.importorskip("transformers")
    from PIL import Image

    pins = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
    tiles = transformers.LlavaNextImageProcessorPil(
        image_grid_pinpoints=pins, size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}
    )(images=[Image.new("RGB", (672, 672))], return_tensors="pt")["pixel_values"]
    assert tiles.shape[1] * (336 // 14) ** 2 == calculated()["tiles"]
    # The small picture, and the four tiles with the end of each of their rows.
    assert 24 * 24 + 48 * 49 == 2928
    qwen_pictures = transformers.Qwen2VLImageProcessorPil(patch_size=14, merge_size=2, min_pixels=56 * 56)
    for size, patches in (((448, 672), calculated()["poster"]), ((151, 224), 4 * 40)):
        grid = qwen_pictures(images=[Image.new("RGB", size)], return_tensors="pt")["image_grid_thw"][0]
        assert int(grid.prod()) == patches
