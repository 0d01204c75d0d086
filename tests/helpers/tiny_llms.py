"""Tiny language models with random weights, with and without eyes, saved as a hub would hold them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

TEXT_FAMILIES = ("llama",)
VISION_FAMILIES = ("llava", "qwen2.5-vl", "qwen3-vl", "smolvlm", "idefics3")
FAMILIES = TEXT_FAMILIES + VISION_FAMILIES
# Llama and LLaVA with a tokenizer as SentencePiece makes them, which writes a space before every text, and a template
# that ends in a word.
METASPACE_FAMILIES = ("vicuna", "llava-1.5")

_CORPUS = [
    "user assistant recommend a film because the picture shows a red matte poster; answer with a letter: A B C",
    "item A item B Yes No history: the user bought a cream and a lipstick. Describe the picture. Would the user take",
    "You know what a user liked. Toy Story (1995) Animation Children's Comedy; GoldenEye (1995) Action Thriller",
] * 20
_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
# What the template writes where a picture goes; the processor puts as many placeholders there as the model wants.
_PICTURE = {
    "llava": "<image>",
    "llava-1.5": "<image>",
    "smolvlm": "<image>",
    "idefics3": "<image>",
    "qwen2.5-vl": "<|vision_start|><|image_pad|><|vision_end|>",
    "qwen3-vl": "<|vision_start|><|image_pad|><|vision_end|>",
}
_MORE_SPECIAL = {
    "llama": [],
    "vicuna": [],
    "llava": ["<image>"],
    "llava-1.5": ["<image>"],
    "smolvlm": ["<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"],
    "idefics3": ["<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"],
    "qwen2.5-vl": ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"],
    "qwen3-vl": ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"],
}


def template(family: str) -> str:
    """ChatML, or what Vicuna speaks; content is a string or a list of parts."""
    picture = _PICTURE.get(family, "")
    if family in METASPACE_FAMILIES:
        return (
            "{% for m in messages %}{{ m['role'].upper() }}: {% if m['content'] is string %}{{ m['content'] }}"
            "{% else %}{% for c in m['content'] %}{% if c['type'] == 'image' %}"
            + picture
            + "{% else %}{{ c['text'] }}{% endif %}"
            "{% endfor %}{% endif %} {% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
        )
    return (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['content'] is string %}{{ m['content'] }}"
        "{% else %}{% for c in m['content'] %}{% if c['type'] == 'image' %}" + picture + "{% else %}{{ c['text'] }}"
        "{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )


def tokenizer(family: str) -> Any:
    """A byte-pair tokenizer: every text can be written, Yes, No and single letters are one token."""
    if family in METASPACE_FAMILIES:
        return _metaspace(family)
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = _SPECIAL + _MORE_SPECIAL[family]
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(_CORPUS, trainer)
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=_MORE_SPECIAL[family],
    )
    made.chat_template = template(family)
    return made


def _metaspace(family: str) -> Any:
    """As the tokenizer of Llama 2: ``▁`` stands for a space, and one is put before every text."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    blank, special = "\u2581", ["<unk>", "<s>", "</s>"]
    backend = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend(blank), normalizers.Replace(" ", blank)])
    # Words are learnt with the blank before them; without this, pieces would reach over words.
    backend.pre_tokenizer = pre_tokenizers.Split(blank, "merged_with_next")
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=[*special, *(f"<0x{byte:02X}>" for byte in range(256))],
        initial_alphabet=[blank, *map(chr, range(33, 127))],
        show_progress=False,
    )
    letters = " ".join("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    backend.train_from_iterator([*_CORPUS, *[f"Yes No {letters}"] * 20], trainer)
    backend.pre_tokenizer = None
    backend.decoder = decoders.Sequence(
        [decoders.Replace(blank, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    begin = backend.token_to_id("<s>")
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", begin)])
    backend.add_special_tokens([AddedToken(one, normalized=False) for one in _MORE_SPECIAL[family]])
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<unk>",
        extra_special_tokens=_MORE_SPECIAL[family],
    )
    made.chat_template = template(family)
    return made


def _text(made: Any, **more: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(made),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "bos_token_id": made.bos_token_id,
        "eos_token_id": made.eos_token_id,
        "pad_token_id": made.pad_token_id,
        "initializer_range": 0.2,  # wide enough that answers differ and pictures are felt
        **more,
    }


_VISION = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 56,
    "patch_size": 14, "initializer_range": 0.2,
}  # fmt: skip


def _llama(folder: Path, family: str) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    made = tokenizer(family)
    LlamaForCausalLM(LlamaConfig(**_text(made), tie_word_embeddings=True)).save_pretrained(folder)
    made.save_pretrained(folder)


def _llava(folder: Path, family: str) -> None:
    from transformers import (
        CLIPImageProcessorPil,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        SiglipVisionConfig,
    )

    made = tokenizer(family)
    config = LlavaConfig(
        vision_config=SiglipVisionConfig(**_VISION, vision_use_head=False),
        text_config=LlamaConfig(**_text(made)),
        image_token_index=made.convert_tokens_to_ids("<image>"),
        image_seq_length=16,
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
        tie_word_embeddings=True,
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}),
        tokenizer=made,
        patch_size=14,
        vision_feature_select_strategy="full",
        num_additional_image_tokens=0,
        chat_template=template(family),
    ).save_pretrained(folder)


def _idefics(folder: Path, family: str) -> None:
    """Idefics3 and SmolVLM: the same but for names. The picture is split into tiles as the real ones do it."""
    import transformers

    made = tokenizer(family)
    brand = {"idefics3": "Idefics3", "smolvlm": "SmolVLM"}[family]
    config_class = getattr(transformers, f"{brand}Config")
    config = config_class(
        vision_config=_VISION,
        text_config={"model_type": "llama", **_text(made)},
        image_token_id=made.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=made.pad_token_id,
        tie_word_embeddings=True,
    )
    getattr(transformers, f"{brand}ForConditionalGeneration")(config).save_pretrained(folder)
    getattr(transformers, f"{brand}ImageProcessorPil")(
        size={"longest_edge": 112}, max_image_size={"longest_edge": 56}, do_image_splitting=True
    ).save_pretrained(folder)
    made.save_pretrained(folder)
    processor = {"processor_class": f"{brand}Processor", "image_seq_len": 4}
    (folder / "processor_config.json").write_text(json.dumps(processor))


def _qwen(folder: Path, family: str) -> None:
    import transformers
    from transformers import Qwen2VLImageProcessorPil

    made = tokenizer(family)
    brand = {"qwen2.5-vl": "Qwen2_5_VL", "qwen3-vl": "Qwen3VL"}[family]
    patch = 14 if family == "qwen2.5-vl" else 16
    vision: dict[str, Any] = {
        "depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 4, "patch_size": patch,
        "spatial_merge_size": 2, "out_hidden_size": 32, "initializer_range": 0.2,
    }  # fmt: skip
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
    if family == "qwen2.5-vl":
        vision |= {"window_size": 56, "fullatt_block_indexes": [1]}
        text = _text(made, rope_parameters=rope)
    else:
        vision |= {"num_position_embeddings": 64, "deepstack_visual_indexes": [0]}
        text = _text(made, rope_parameters=rope | {"mrope_interleaved": True}, head_dim=8)
    ids = {
        f"{key}_token_id": made.convert_tokens_to_ids(f"<|{token}|>")
        for key, token in (
            ("image", "image_pad"),
            ("video", "video_pad"),
            ("vision_start", "vision_start"),
            ("vision_end", "vision_end"),
        )
    }
    config_class = getattr(transformers, f"{brand}Config")
    config = config_class(text_config=text, vision_config=vision, tie_word_embeddings=True, **ids)
    getattr(transformers, f"{brand}ForConditionalGeneration")(config).save_pretrained(folder)
    made.save_pretrained(folder)
    area = patch * patch
    Qwen2VLImageProcessorPil(
        patch_size=patch, merge_size=2, size={"shortest_edge": 4 * area, "longest_edge": 32 * area}
    ).save_pretrained(folder)
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    settings["processor_class"] = f"{brand}Processor"
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))


_MAKERS: dict[str, Callable[[Path, str], None]] = {
    **dict.fromkeys(("llama", "vicuna"), _llama),
    **dict.fromkeys(("llava", "llava-1.5"), _llava),
    "smolvlm": _idefics,
    "idefics3": _idefics,
    "qwen2.5-vl": _qwen,
    "qwen3-vl": _qwen,
}


def tiny_model(folder: Path, family: str) -> Path:
    """Save a tiny random model of a family, its tokenizer and processor; the same weights every time."""
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        _MAKERS[family](folder, family)
    return folder
