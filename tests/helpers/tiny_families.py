"""Tiny random models of further families, made from the configurations of the installed transformers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_llms import tokenizer

SIDE, PATCH = 56, 14
_LINEAR = {
    "linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
    "linear_conv_kernel_dim": 4, "layer_types": ["linear_attention", "full_attention"],
}  # fmt: skip
_EXPERTS = {
    "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16,
}  # fmt: skip
_SSM = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_chunk_size": 16}
# Text families: what their configuration has besides the usual. A window of 16 is shorter than every prompt.
TEXT: dict[str, dict[str, Any]] = {
    "bamba": {**_SSM, "attn_layer_indices": [1]},
    "cohere2": {"logit_scale": 0.25, "sliding_window": 16},
    "falcon_h1": {**_SSM, "mamba_d_ssm": 64, "lm_head_multiplier": 4.0},
    "gemma2": {"sliding_window": 4096},
    "gemma3_text": {"sliding_window": 16},
    "glm4": {},
    "gpt_oss": {"sliding_window": 4096, "num_local_experts": 4, "num_experts_per_tok": 2},
    "granite": {"logits_scaling": 8.0},
    "hyperclovax": {"logits_scaling": 8.0},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "mamba": {"state_size": 4},
    "mistral": {"sliding_window": 16},
    "nanochat": {},
    "olmo2": {},
    "phi3": {},
    "qwen3": {},
    "qwen3_5_text": _LINEAR,
    "qwen3_next": {**_LINEAR, **_EXPERTS},
    "smollm3": {},
}
_SIGLIP = {
    "model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
    "num_attention_heads": 4, "image_size": SIDE, "patch_size": PATCH, "initializer_range": 0.2,
    "vision_use_head": False,
}  # fmt: skip
_SQUARE = {"height": SIDE, "width": SIDE}


def text_config(made: Any, family: str, **more: Any) -> dict[str, Any]:
    """Two layers, 32 wide."""
    return {
        "model_type": family,
        "vocab_size": len(made),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 2048,
        "bos_token_id": made.bos_token_id,
        "eos_token_id": made.eos_token_id,
        "pad_token_id": made.pad_token_id,
        **more,
    }


def _with_tokens(*tokens: str, picture: str, **names: str) -> Any:
    """A tokenizer with these further tokens (``names`` are attributes of it), that writes ``picture`` for a picture."""
    from transformers import PreTrainedTokenizerFast

    plain = tokenizer("llava")
    plain.add_special_tokens({"extra_special_tokens": [*tokens, *names.values()]})
    made = PreTrainedTokenizerFast(
        tokenizer_object=plain.backend_tokenizer,
        bos_token=plain.bos_token,
        eos_token=plain.eos_token,
        pad_token=plain.pad_token,
        extra_special_tokens=[*tokens, *names.values()],
        model_specific_special_tokens=names,
    )
    made.chat_template = plain.chat_template
    made.chat_template = made.chat_template.replace("<image>", picture)
    return made


def _save(folder: Path, model: Any, made: Any, image_processor: Any, processor: dict[str, Any]) -> None:
    """As a hub would hold it."""
    model.save_pretrained(folder)
    image_processor.save_pretrained(folder)
    made.save_pretrained(folder)
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    settings["processor_class"] = processor["processor_class"]
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    (folder / "processor_config.json").write_text(json.dumps(processor))


def _model(kind: str, config: dict[str, Any], auto: str) -> Any:
    import transformers

    made = getattr(transformers, auto).from_config(transformers.AutoConfig.for_model(kind, **config))
    with torch.no_grad():
        for weight in made.parameters():
            if weight.ndim > 1:
                weight.normal_(0, 0.2)  # wide enough that answers differ and pictures are felt
    return made


def _text_model(folder: Path, family: str) -> None:
    made = tokenizer("llama")
    config = text_config(made, family, **TEXT[family])
    _model(
        family, {key: value for key, value in config.items() if key != "model_type"}, "AutoModelForCausalLM"
    ).save_pretrained(folder)
    made.save_pretrained(folder)


def _gemma3(folder: Path, family: str) -> None:
    from transformers import Gemma3ImageProcessorPil

    made = _with_tokens(picture="<start>", boi_token="<start>", eoi_token="<end>", image_token="<soft>")
    text = text_config(made, "gemma3_text", sliding_window=64, layer_types=["sliding_attention", "full_attention"])
    config = {
        "text_config": text,
        "vision_config": _SIGLIP,
        "mm_tokens_per_image": 4,
        "image_token_index": made.image_token_id,
        "boi_token_index": made.boi_token_id,
        "eoi_token_index": made.eoi_token_id,
    }
    _save(
        folder,
        _model(family, config, _SEES),
        made,
        Gemma3ImageProcessorPil(size=_SQUARE),
        {"processor_class": "Gemma3Processor", "image_seq_length": 4},
    )


_SEES = "AutoModelForImageTextToText"


def _llava_next(folder: Path, family: str) -> None:
    import transformers

    brand = {"llava_next": "LlavaNext", "llava_onevision": "LlavaOnevision"}[family]
    made = _with_tokens("<image>", "<video>", picture="<image>")
    pins = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]
    ids = {"image_token_index": made.convert_tokens_to_ids("<image>")}
    if family == "llava_onevision":
        ids = {
            "image_token_id": made.convert_tokens_to_ids("<image>"),
            "video_token_id": made.convert_tokens_to_ids("<video>"),
        }
    config = {
        "text_config": text_config(made, "qwen2"), "vision_config": _SIGLIP, "image_grid_pinpoints": pins,
        "vision_feature_select_strategy": "full", "vision_feature_layer": -1, **ids,
    }  # fmt: skip
    more = {"size": {"shortest_edge": SIDE}, "crop_size": _SQUARE} if family == "llava_next" else {"size": _SQUARE}
    pil = getattr(transformers, f"{brand}ImageProcessorPil")(image_grid_pinpoints=pins, **more)
    own = (
        {"patch_size": PATCH, "num_additional_image_tokens": 0} if family == "llava_next" else {"num_image_tokens": 16}
    )
    _save(
        folder,
        _model(family, config, _SEES),
        made,
        pil,
        {"processor_class": f"{brand}Processor", "vision_feature_select_strategy": "full", **own},
    )


def _mllama(folder: Path, family: str) -> None:
    from transformers import MllamaImageProcessorPil

    made = _with_tokens("<|image|>", "<|python_tag|>", picture="<|image|>")
    vision = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_global_layers": 1,
        "attention_heads": 4, "image_size": SIDE, "patch_size": PATCH, "vision_output_dim": 64, "max_num_tiles": 4,
        "intermediate_layers_indices": [0],
    }  # fmt: skip
    text = text_config(made, "mllama_text_model", cross_attention_layers=[1])
    config = {
        "text_config": text,
        "vision_config": vision,
        "image_token_index": made.convert_tokens_to_ids("<|image|>"),
    }
    _save(
        folder,
        _model(family, config, _SEES),
        made,
        MllamaImageProcessorPil(size=_SQUARE, max_image_tiles=4),
        {"processor_class": "MllamaProcessor"},
    )


def _paligemma(folder: Path, family: str) -> None:
    from transformers import SiglipImageProcessorPil

    made = _with_tokens(picture="<image>", image_token="<image>")
    pil = SiglipImageProcessorPil(size=_SQUARE)
    pil.image_seq_length = 16
    made.add_tokens([f"<loc{number:04}>" for number in range(1024)] + [f"<seg{number:03}>" for number in range(128)])
    config = {
        "text_config": text_config(made, "gemma2", sliding_window=512),
        "vision_config": {**_SIGLIP, "projection_dim": 32},
        "projection_dim": 32,
        "image_token_index": made.image_token_id,
    }
    _save(folder, _model(family, config, _SEES), made, pil, {"processor_class": "PaliGemmaProcessor"})


def _aya_vision(folder: Path, family: str) -> None:
    from transformers import GotOcr2ImageProcessorPil

    tokens = ("<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "<|IMG_LINE_BREAK|>", "TILE", "TILE_GLOBAL")
    made = _with_tokens("<image>", *tokens, picture="<image>")
    config = {
        "text_config": text_config(made, "cohere2", sliding_window=4096, logit_scale=0.25),
        "vision_config": _SIGLIP,
        "image_token_index": made.convert_tokens_to_ids("<|IMG_PATCH|>"),
        "downsample_factor": 2,
        "vision_feature_select_strategy": "full",
    }
    _save(
        folder,
        _model(family, config, _SEES),
        made,
        GotOcr2ImageProcessorPil(size=_SQUARE, crop_to_patches=True, max_patches=2),
        {"processor_class": "AyaVisionProcessor", "patch_size": PATCH, "img_size": SIDE, "downsample_factor": 2},
    )


def _qwen(folder: Path, family: str) -> None:
    from transformers import Qwen2VLImageProcessorPil

    ids = {
        "image_token": "<|image_pad|>",
        "video_token": "<|video_pad|>",
        "vision_start_token": "<|vision_start|>",
        "vision_end_token": "<|vision_end|>",
    }
    made = _with_tokens(picture="<|vision_start|><|image_pad|><|vision_end|>", **ids)
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
    vision: dict[str, Any] = {
        "depth": 1,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 4,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "out_hidden_size": 32,
        "initializer_range": 0.2,
        "num_position_embeddings": 64,
    }
    if family == "qwen2_vl":
        vision |= {"embed_dim": 32, "hidden_size": 32, "mlp_ratio": 2}
        text = text_config(made, "qwen2_vl_text", rope_parameters=rope)
    else:
        text = text_config(
            made,
            "qwen3_5_text",
            rope_parameters=rope | {"mrope_interleaved": True, "partial_rotary_factor": 1.0},
            **_LINEAR,
        )
    config = {
        "text_config": text,
        "vision_config": vision,
        **{f"{name}_id": made.convert_tokens_to_ids(token) for name, token in ids.items()},
    }
    _save(
        folder,
        _model(family, config, _SEES),
        made,
        Qwen2VLImageProcessorPil(patch_size=16, merge_size=2, size={"shortest_edge": 1024, "longest_edge": 8192}),
        {"processor_class": "Qwen2VLProcessor" if family == "qwen2_vl" else "Qwen3VLProcessor"},
    )


def _internvl(folder: Path, family: str) -> None:
    from transformers import GotOcr2ImageProcessorPil

    made = _with_tokens(
        picture="<IMG_CONTEXT>",
        start_image_token="<img>",
        end_image_token="</img>",
        context_image_token="<IMG_CONTEXT>",
        video_token="<video>",
    )
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "image_size": [SIDE, SIDE],
        "patch_size": [PATCH, PATCH],
    }
    config = {
        "text_config": text_config(made, "qwen2"),
        "vision_config": vision,
        "image_token_id": made.context_image_token_id,
        "image_seq_length": 4,
    }
    _save(
        folder,
        _model(family, config, _SEES),
        made,
        GotOcr2ImageProcessorPil(size=_SQUARE, crop_to_patches=True, max_patches=2),
        {"processor_class": "InternVLProcessor", "image_seq_length": 4},
    )


def _minicpm(folder: Path, family: str) -> None:
    from transformers import MiniCPMV4_6ImageProcessorPil

    names = {
        "image_token": "<unk_image>", "video_token": "<unk_video>", "image_start_token": "<image>",
        "image_end_token": "</image>", "slice_start_token": "<slice>", "slice_end_token": "</slice>",
        "image_id_start_token": "<image_id>", "image_id_end_token": "</image_id>",
    }  # fmt: skip
    made = _with_tokens(picture="<unk_image>", **names)
    vision = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "image_size": 112, "patch_size": PATCH,
    }  # fmt: skip
    config = {
        "text_config": text_config(made, "qwen3_5_text", **_LINEAR),
        "vision_config": vision,
        "insert_layer_id": 0,
        "image_token_id": made.convert_tokens_to_ids("<unk_image>"),
        "video_token_id": made.convert_tokens_to_ids("<unk_video>"),
    }
    pil = MiniCPMV4_6ImageProcessorPil(scale_resolution=112, max_slice_nums=1)
    _save(folder, _model(family, config, _SEES), made, pil, {"processor_class": "MiniCPMV4_6Processor"})


VISION: dict[str, Callable[[Path, str], None]] = {
    "aya_vision": _aya_vision,
    "gemma3": _gemma3,
    "internvl": _internvl,
    "llava_next": _llava_next,
    "llava_onevision": _llava_next,
    "minicpmv4_6": _minicpm,
    "mllama": _mllama,
    "paligemma": _paligemma,
    "qwen2_vl": _qwen,
    "qwen3_5": _qwen,
}


def tiny_family(folder: Path, family: str) -> Path:
    """Save a tiny random model of a family as a hub would hold it; skips where transformers does not know it."""
    transformers = pytest.importorskip("transformers")
    known = transformers.models.auto.configuration_auto.CONFIG_MAPPING_NAMES
    if family not in known:
        pytest.skip(f"transformers {transformers.__version__} has no {family}")
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        (_text_model if family in TEXT else VISION[family])(folder, family)
    return folder


def blind_model(family: str) -> tuple[Any, Any]:
    """A model that sees, and a tokenizer alone: for families whose processors need torchvision."""
    made = tokenizer("llama")
    llama4 = text_config(made, "llama4_text", num_local_experts=2, intermediate_size_mlp=64, num_experts_per_tok=1)
    tower = {key: value for key, value in _SIGLIP.items() if key not in ("model_type", "vision_use_head")}
    config = {
        "llama4": {
            "text_config": llama4,
            "vision_config": {
                **tower, "vision_output_dim": 32, "projector_input_dim": 32, "projector_output_dim": 32,
            },
        },
        "cohere2_vision": {
            "text_config": text_config(made, "cohere2", sliding_window=4096, logit_scale=0.25),
            "vision_config": _SIGLIP,
        },
        "lfm2_vl": {
            "text_config": text_config(made, "lfm2", layer_types=["conv", "full_attention"]),
            "vision_config": {**tower, "model_type": "siglip2_vision_model", "num_patches": 16},
        },
    }[family]  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return _model(family, config, _SEES).eval(), made
