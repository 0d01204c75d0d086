"""Tiny models with random weights, saved as a hub would hold them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "heat", "alien", "jaws", "(", ")", "1995", "a", "film", "of"]


def tokenizer(folder: Path, kind: str = "bert") -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        eos_token="[SEP]", model_max_length=32,
    )  # fmt: skip
    made.save_pretrained(folder)
    return made


def bert(folder: Path) -> Path:
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=32,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    tokenizer(folder)
    return folder


def sentence_transformer(folder: Path, mode: str = "cls_token", dense: bool = True, prompt: str = "") -> Path:
    """The layout of a sentence-transformers model: pooling, a linear layer, normalisation."""
    bert(folder)
    kinds = ["Transformer", "Pooling", *(["Dense"] if dense else []), "Normalize"]
    paths = ["", *(f"{n}_{kind}" for n, kind in enumerate(kinds) if n)]
    modules = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (kind, path) in enumerate(zip(kinds, paths, strict=True))
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 6}')
    if prompt:
        settings = {"prompts": {"item": prompt}, "default_prompt_name": "item"}
        (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text(json.dumps({f"pooling_mode_{mode}": True}))
    if dense:
        (folder / "2_Dense").mkdir()
        save_file(
            {"linear.weight": torch.randn(5, 16), "linear.bias": torch.randn(5)}, folder / "2_Dense/model.safetensors"
        )
        activation = {"activation_function": "torch.nn.modules.activation.Tanh"}
        (folder / "2_Dense/config.json").write_text(json.dumps(activation))
    return folder


def _vision() -> dict[str, Any]:
    return {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "image_size": 28, "patch_size": 14,
    }  # fmt: skip


def _text() -> dict[str, Any]:
    return {
        "vocab_size": len(WORDS), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "max_position_embeddings": 16,
        "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0,
    }  # fmt: skip


def clip(folder: Path) -> Path:
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=_text(), vision_config=_vision(), projection_dim=8)).save_pretrained(folder)
    tokenizer(folder)
    size = {"height": 28, "width": 28}
    CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size=size).save_pretrained(folder)
    return folder


def siglip(folder: Path) -> Path:
    from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipModel

    torch.manual_seed(0)
    SiglipModel(SiglipConfig(text_config=_text(), vision_config=_vision())).save_pretrained(folder)
    tokenizer(folder)
    SiglipImageProcessorPil(size={"height": 28, "width": 28}).save_pretrained(folder)
    return folder


def dinov2(folder: Path) -> Path:
    from transformers import BitImageProcessorPil, Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    Dinov2Model(Dinov2Config(**{**_vision(), "mlp_ratio": 2})).save_pretrained(folder)
    size = {"height": 28, "width": 28}
    BitImageProcessorPil(size={"shortest_edge": 28}, crop_size=size).save_pretrained(folder)
    return folder


def vit(folder: Path, pooler: bool) -> Path:
    from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

    torch.manual_seed(0)
    ViTModel(ViTConfig(**_vision()), add_pooling_layer=pooler).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 28, "width": 28}).save_pretrained(folder)
    return folder


def resnet(folder: Path) -> Path:
    from transformers import ConvNextImageProcessorPil, ResNetConfig, ResNetModel

    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    ResNetModel(config).save_pretrained(folder)
    ConvNextImageProcessorPil(size={"shortest_edge": 32}).save_pretrained(folder)
    return folder
