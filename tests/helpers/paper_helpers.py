"""The papers' own recipes at the size of a test: tiny models of their families, and raw data with pictures."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tiny_families import text_config
from tiny_llms import tokenizer

ITEMS = 24
_START = 1_600_000_000  # seconds since 1970
_SIDE, _PATCH = 56, 14
_PINPOINTS = [[_SIDE, 2 * _SIDE], [2 * _SIDE, _SIDE], [2 * _SIDE, 2 * _SIDE], [3 * _SIDE, _SIDE], [_SIDE, 3 * _SIDE]]
# As LLaVA-v1.6-Mistral writes a chat: the pictures of a message first, then its text.
_TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'system' %}<<SYS>>\n{{ m['content'][0]['text'] }}\n<</SYS>>\n\n"
    "{% elif m['role'] == 'user' %}[INST] "
    "{% for c in m['content'] | selectattr('type', 'equalto', 'image') %}<image>\n{% endfor %}"
    "{% for c in m['content'] | selectattr('type', 'equalto', 'text') %}{{ c['text'] }}{% endfor %} [/INST]"
    "{% else %} {{ m['content'][0]['text'] }}</s> {% endif %}{% endfor %}"
)


def llava_next_mistral(folder: Path) -> Path:
    """A tiny LLaVA-NeXT as LLaVA-v1.6-Mistral-7B is built: CLIP without its class token, tiles, Mistral without a
    window, a SentencePiece tokenizer."""
    from transformers import (
        CLIPVisionConfig,
        LlavaNextConfig,
        LlavaNextForConditionalGeneration,
        LlavaNextImageProcessorPil,
        LlavaNextProcessor,
        MistralConfig,
    )

    made = tokenizer("llava-1.5")
    made.chat_template = _TEMPLATE
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4, image_size=_SIDE,
        patch_size=_PATCH, projection_dim=32,
    )  # fmt: skip
    text = text_config(made, "mistral", sliding_window=None, max_position_embeddings=4096)
    config = LlavaNextConfig(
        vision_config=vision,
        text_config=MistralConfig(**{key: value for key, value in text.items() if key != "model_type"}),
        image_token_index=made.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=_PINPOINTS,
        vision_feature_select_strategy="default",
        vision_feature_layer=-2,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlavaNextForConditionalGeneration(config)
        with torch.no_grad():
            for weight in model.parameters():
                if weight.ndim > 1:
                    weight.normal_(0, 0.2)  # wide enough that answers differ and pictures are felt
    model.save_pretrained(folder)
    size = {"height": _SIDE, "width": _SIDE}
    LlavaNextProcessor(
        image_processor=LlavaNextImageProcessorPil(
            image_grid_pinpoints=_PINPOINTS, size={"shortest_edge": _SIDE}, crop_size=size
        ),
        tokenizer=made,
        patch_size=_PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_TEMPLATE,
    ).save_pretrained(folder)
    return folder


def _histories(users: int, seed: int = 0) -> list[list[int]]:
    """Items from 1, oldest first: every user takes even or odd ones only."""
    rng = np.random.default_rng(seed)
    own = [np.arange(1 + user % 2, ITEMS + 1, 2) for user in range(users)]
    return [rng.permutation(items)[: int(rng.integers(6, 9))].tolist() for items in own]


def _pictures(folder: Path) -> None:
    """Portraits and landscapes of several shapes."""
    folder.mkdir(parents=True)
    for item in range(1, ITEMS + 1):
        size = ((40, 60), (60, 40), (50, 50), (30, 90))[item % 4]
        Image.new("RGB", size, (9 * item, 30 if item % 2 else 200, 99)).save(folder / f"{item}.jpg")


def raw_microlens(folder: Path, users: int = 20) -> None:
    """``folder`` as MicroLens publishes it: pairs with times, titles, covers."""
    folder.mkdir(parents=True)
    rows = [
        f"{user},{item},{_START + 1000 * place + user}000"
        for user, items in enumerate(_histories(users))
        for place, item in enumerate(items)
    ]
    (folder / "MicroLens-50k_pairs.csv").write_text("\n".join(["user,item,timestamp", *rows, ""]))
    titles = [f"{item},{'Cooking' if item % 2 else 'Football'} video {item}" for item in range(1, ITEMS + 1)]
    (folder / "MicroLens-50k_titles.csv").write_text("\n".join(["item,title", *titles, ""]))
    _pictures(folder / "MicroLens-50k_covers")


def raw_ml_100k(folder: Path, users: int = 8) -> None:
    """``folder`` as MovieLens 100K is published, with posters."""
    folder.mkdir(parents=True)
    rows = []
    for user, items in enumerate(_histories(users), 1):
        rows += [f"{user}\t{item}\t5\t{_START + 1000 * place + user}" for place, item in enumerate(items)]
        rows.append(f"{user}\t{items[0] % 2 + 1}\t1\t{_START + user}")  # of the other half
    (folder / "u.data").write_text("\n".join([*rows, ""]))
    films = []
    for item in range(1, ITEMS + 1):
        genres = ["0"] * 19
        genres[5 if item % 2 else 16] = "1"
        films.append("|".join([str(item), f"Film {item} (1995)", "01-Jan-1995", "", "", *genres]))
    (folder / "u.item").write_text("\n".join([*films, ""]))
    _pictures(folder / "posters")


def commands_of(recipe: Path) -> list[list[str]]:
    """The words after ``palate`` of every command at the head of a recipe, braces and continued lines resolved."""
    head = [line[1:] for line in recipe.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(head))
    lines = [line for line in joined.splitlines() if re.match(r"\s+palate ", line)]
    return [shlex.split(line, comments=True)[1:] for line in lines]


def replaced(recipe: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """The recipe with other values of settings that it has; ``mllm.sft.model`` names one inside tables."""
    made: dict[str, Any] = json.loads(json.dumps(recipe))
    for path, value in values.items():
        *tables, key = path.split(".")
        inner = made
        for name in tables:
            inner = inner[name]
        assert key in inner, f"the recipe does not set {path}"
        inner[key] = value
    return made
