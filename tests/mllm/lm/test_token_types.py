"""PaliGemma reads a prompt in both directions and an answer in one: training must not let the prompt see the answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

pytest.importorskip("transformers")

from tiny_llms import tokenizer

from palate.mllm.lm.chat_model import IGNORED, ChatModel
from palate.mllm.prompts.chat import Chat, Picture

TEMPLATE = (
    "{% for m in messages %}{% for c in m['content'] if c['type'] == 'image' %}<image>{% endfor %}"
    "{% for c in m['content'] if c['type'] == 'text' %}{{ c['text'] }}{% endfor %}\n{% endfor %}"
)


@pytest.fixture(scope="module")
def model() -> ChatModel:
    from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration, PaliGemmaProcessor
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    made = tokenizer("llava")
    pictures = SiglipImageProcessorPil(size={"height": 28, "width": 28})
    pictures.image_seq_length = 4
    processor = PaliGemmaProcessor(pictures, made, chat_template=TEMPLATE)
    vision: dict[str, Any] = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 28,
        "patch_size": 14, "initializer_range": 0.2, "projection_dim": 32,
    }  # fmt: skip
    text: dict[str, Any] = {
        "model_type": "gemma", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "vocab_size": len(made), "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "initializer_range": 0.2,
    }  # fmt: skip
    config = PaliGemmaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=processor.image_token_id,
        projection_dim=32,
        hidden_size=32,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        whole = PaliGemmaForConditionalGeneration(config).eval()
    return ChatModel("paligemma", whole, processor, fingerprint="")


@pytest.fixture
def picture(tmp_path: Path) -> Picture:
    Image.new("RGB", (40, 40), (200, 30, 30)).save(tmp_path / "red.png")
    return Picture(tmp_path / "red.png")


def test_the_prompt_does_not_see_the_answer(model: ChatModel, picture: Picture) -> None:
    chat = Chat((picture, "Would the user take it?"))
    question, learnt = model.encode(chat), model.encode(chat, "Yes")
    assert question.per_token["token_type_ids"].tolist() == [0] * len(question)
    assert learnt.per_token["token_type_ids"].tolist() == [0] * len(question) + [1] * learnt.answer
    with torch.inference_mode():
        asked = model.model(**model.collate([question])).logits[0]
        batch = model.collate([learnt], labels=True)
        assert (batch["labels"] != IGNORED).sum() == learnt.answer
        taught = model.model(**batch).logits[0, : len(question)]
    torch.testing.assert_close(taught, asked, atol=1e-5, rtol=1e-5)


def test_words_alone_are_read_as_they_are_beside_pictures(model: ChatModel, picture: Picture) -> None:
    words, shown = Chat(("Would the user take it?",)), Chat((picture, "Would the user take it, or something else?"))
    row = model.encode(words, "Yes")
    assert row.per_token["token_type_ids"].tolist() == [0] * (len(row) - row.answer) + [1] * row.answer
    question = model.encode(words)
    with torch.inference_mode():
        alone = model.model(**model.collate([question])).logits[0]
        together = model.model(**model.collate([question, model.encode(shown)])).logits[0, : len(question)]
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)
